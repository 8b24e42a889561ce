"""With the kernel source of each series that is supported: the installed one, or Debian's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from unikernel.errors import UnikernelError
from unikernel.library_os import find_library_os
from unikernel.linux.configuration import _RESERVED, Configuration, base_options, configure
from unikernel.linux.kconfig import Kconfig
from unikernel.linux.kit import _COMPILED_WITH, _ENTRY_TEXT_APART, _HEADERS, _WRAPPED
from unikernel.linux.source import pack_kconfig, unpack
from unikernel.testing.kernel_sources import RELEASES, kernel_source


@pytest.fixture(scope="module", params=sorted(RELEASES))
def kconfig(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("kconfig")
    pack_kconfig(kernel_source(request.param), directory / "kconfig.tar", tar="tar", scratch=directory)
    return directory / "kconfig.tar"


def _configure(kconfig: Path, scratch: Path, *options: str) -> Configuration:
    scratch.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"]}
    return configure(kconfig, options, environment=environment, make="make", tar="tar", scratch=scratch)


def test_the_base_configuration_can_be_satisfied(kconfig: Path, tmp_path: Path) -> None:
    configuration = _configure(kconfig, tmp_path / "s")
    assert configuration.version.startswith("6.")
    asked = {f"{symbol}={value}" for symbol, value in base_options(configuration.version).items() if value != "n"}
    assert asked <= set(configuration.text.splitlines())


def test_the_options_that_this_toolkit_looks_at_are_there(kconfig: Path, tmp_path: Path) -> None:
    """One that was renamed would be taken as switched off."""
    unpack(kconfig, tmp_path / "tree", tar="tar")
    known = Kconfig(tmp_path / "tree", "x86")
    callers = [symbol for symbols in _WRAPPED.values() for symbol in symbols]
    assert [symbol for symbol in (*_COMPILED_WITH.values(), *_HEADERS, *_RESERVED, *callers) if symbol not in known] == []
    # Each of both by its name of before or since 6.9.
    assert len([symbol for symbol in _ENTRY_TEXT_APART if symbol in known]) == 2
    # Part of the compiler's options.
    assert "CONFIG_CRYPTO_MANAGER_DISABLE_TESTS" in known


def test_what_hypervisors_take_can_be_satisfied(kconfig: Path, tmp_path: Path) -> None:
    supports = find_library_os("linux").hypervisors.values()
    options = sorted({option for support in supports for option in (*support.kernel_config, *support.kernel_config_smp)})
    assert "CONFIG_XEN_PVH=y" in options
    # See docs/hypervisors.md.
    options += ["CONFIG_SMP=y", "CONFIG_X86_MPPARSE=y"]
    assert set(options) <= set(_configure(kconfig, tmp_path / "s", *options).text.splitlines())


def test_options_are_taken_in_any_order_and_a_choice_can_be_changed(kconfig: Path, tmp_path: Path) -> None:
    options = ["CONFIG_HZ_1000=y", "CONFIG_EXT4_FS=y", "CONFIG_BLOCK=y", "CONFIG_LOG_BUF_SHIFT=16"]
    one = _configure(kconfig, tmp_path / "one", *options)
    two = _configure(kconfig, tmp_path / "two", *reversed(options))
    assert one == two
    lines = one.text.splitlines()
    assert {*options, "# CONFIG_HZ_100 is not set"} <= set(lines)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["CONFIG_NO_SUCH_OPTION=y"], ["there is no option CONFIG_NO_SUCH_OPTION in Linux 6."]),
        (["CONFIG_ARM64=y"], ["there is no option CONFIG_ARM64"]),
        (["CONFIG_BTRFS_FS=y"], ["CONFIG_BTRFS_FS=y comes out as CONFIG_BTRFS_FS=n", "it depends on BLOCK"]),
        (["CONFIG_NET=n"], []),
        (
            ["CONFIG_CRC32=n", "CONFIG_BLOCK=y", "CONFIG_EXT4_FS=y"],
            ["CONFIG_CRC32=n comes out as CONFIG_CRC32=y", "selected by"],
        ),
        (["CONFIG_LOG_BUF_SHIFT=99"], ["CONFIG_LOG_BUF_SHIFT=99 comes out as CONFIG_LOG_BUF_SHIFT="]),
        (["CONFIG_X86=n"], ["CONFIG_X86=n comes out as CONFIG_X86=y"]),
    ],
)
def test_what_the_kernel_cannot_satisfy_is_refused_with_the_reason(
    kconfig: Path, tmp_path: Path, options: list[str], parts: list[str]
) -> None:
    if not parts:
        _configure(kconfig, tmp_path / "s", *options)
        return
    with pytest.raises(UnikernelError) as caught:
        _configure(kconfig, tmp_path / "s", *options)
    for part in parts:
        assert part in str(caught.value)
