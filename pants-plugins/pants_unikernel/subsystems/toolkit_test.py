from __future__ import annotations

import pytest

from pants_unikernel.subsystems.toolkit import toolkit_sources
from pants_unikernel.util_rules import linux_kit


def paths(*patterns: str) -> list[str]:
    return [source.path for source in toolkit_sources(*patterns)]


def test_toolkit_is_shipped_with_its_data_and_without_tests() -> None:
    everything = paths()
    assert len(set(everything)) == len(everything)
    assert {"unikernel/cli.py", "unikernel/linux/kernel/base.config", "unikernel/linux/init/init.c"} <= set(everything)
    assert not [path for path in everything if "_test." in path or "/testing/" in path or path.endswith(("BUILD", ".pyc"))]


def test_what_compiles_a_kernel_is_a_few_files() -> None:
    """An edit of anything else in the toolkit compiles no kernel."""
    for patterns in (linux_kit._KIT_SOURCES, linux_kit._CONFIGURE_SOURCES, linux_kit._INIT_SOURCES):
        assert paths(*patterns)
    assert not [path for path in paths(*linux_kit._KIT_SOURCES) if path.startswith(("unikernel/rootfs", "unikernel/image"))]
    assert "unikernel/linux/kernel/base.config" not in paths(*linux_kit._KIT_SOURCES)


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ImportError, match=r"has no file linux/kernel/\*\.conf or other\.py, .*of one version"):
        toolkit_sources("errors.py", "linux/kernel/*.conf", "other.py")
