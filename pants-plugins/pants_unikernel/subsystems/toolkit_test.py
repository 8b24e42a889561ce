from __future__ import annotations

import pytest

from pants_unikernel.subsystems.toolkit import missing_distutils, toolkit_sources
from unikernel.errors import UnikernelError
from unikernel.linux.kit_key import CONFIGURE_SOURCES, INIT_SOURCES, KIT_SOURCES


def paths(*patterns: str) -> list[str]:
    return [source.path for source in toolkit_sources(*patterns)]


def test_toolkit_is_shipped_with_its_data_and_without_tests() -> None:
    everything = paths()
    assert len(set(everything)) == len(everything)
    assert {"unikernel/cli.py", "unikernel/linux/kernel/base.config", "unikernel/linux/init/init.c"} <= set(everything)
    assert not [path for path in everything if "_test." in path or "/testing/" in path or path.endswith(("BUILD", ".pyc"))]


def test_what_compiles_a_kernel_is_a_few_files() -> None:
    """An edit of anything else in the toolkit compiles no kernel."""
    for patterns in (KIT_SOURCES, CONFIGURE_SOURCES, INIT_SOURCES):
        for pattern in patterns:
            assert paths(pattern), f"{pattern} matches nothing"
    assert not [path for path in paths(*KIT_SOURCES) if path.startswith(("unikernel/rootfs", "unikernel/image"))]
    assert "unikernel/linux/kernel/base.config" not in paths(*KIT_SOURCES)


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(UnikernelError, match=r"has no file linux/kernel/\*\.conf or other\.py: it is incomplete"):
        toolkit_sources("errors.py", "linux/kernel/*.conf", "other.py")


def test_an_interpreter_without_distutils_is_named_with_the_fix() -> None:
    printed = (
        "Failed to spawn a job for /usr/bin/python3.11: pid 68 -> ...\nModuleNotFoundError: No module named 'distutils.util'\n"
    )
    reason = missing_distutils(printed)
    assert reason is not None
    assert "/usr/bin/python3.11, has no `distutils`" in reason and "apt-get install python3-distutils" in reason
    assert missing_distutils("No matching distribution found for distutils-like") is None
