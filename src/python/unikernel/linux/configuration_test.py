from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.linux.configuration import Configuration, base_options, configure, parse_option
from unikernel.linux.marker import COMMAND_LINE_MARKER
from unikernel.testing.python import write_tree


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("CONFIG_BTRFS_FS=y", ("CONFIG_BTRFS_FS", "y")),
        ("  CONFIG_X=n ", ("CONFIG_X", "n")),
        ("# CONFIG_X is not set", ("CONFIG_X", "n")),
        ("CONFIG_LOG_BUF_SHIFT=14", ("CONFIG_LOG_BUF_SHIFT", "14")),
        ("CONFIG_A=-1", ("CONFIG_A", "-1")),
        ("CONFIG_PHYSICAL_START=0x200000", ("CONFIG_PHYSICAL_START", "0x200000")),
        ('CONFIG_S="a b=c"', ("CONFIG_S", '"a b=c"')),
        ('CONFIG_S=""', ("CONFIG_S", '""')),
    ],
)
def test_options(text: str, option: tuple[str, str]) -> None:
    assert parse_option(text) == option


@pytest.mark.parametrize(
    "text",
    [
        "",
        "BTRFS_FS=y",
        "CONFIG_X",
        "CONFIG_X=",
        "CONFIG_X=yes",
        "CONFIG_X = y",
        "CONFIG_X=y\nCONFIG_Y=y",
        'CONFIG_S="a',
        "# CONFIG_X",
    ],
)
def test_what_is_no_option_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no kernel option; write it as") as caught:
        parse_option(text)
    assert repr(text) in str(caught.value)


def test_modules_and_what_the_link_relies_on_are_refused() -> None:
    with pytest.raises(ValueError, match="CONFIG_X=m: there are no modules in an image; write CONFIG_X=y"):
        parse_option("CONFIG_X=m")
    for text in ('CONFIG_CMDLINE="quiet"', "CONFIG_PVH=n", "# CONFIG_PVH is not set", "CONFIG_MODULES=y"):
        with pytest.raises(ValueError, match="cannot be set: ."):
            parse_option(text)


def test_the_base_configuration_has_a_part_for_each_series() -> None:
    common = base_options("9.9.9")
    assert common["CONFIG_64BIT"] == "y"
    assert common["CONFIG_PHYSICAL_START"] == "0x200000"
    assert {**common, "CONFIG_BASE_FULL": "y"} == base_options("6.1.192")
    # No option of it is one that an image could not have named.
    assert all(symbol.startswith("CONFIG_") for symbol in common)


# A Kconfig that takes everything but what needs BLOCK, and adds what nobody asked for.
_MAKEFILE = """\
VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 5
allnoconfig:
	grep -v -e BTRFS $(KCONFIG_ALLCONFIG) > .config
	echo CONFIG_ARCH=\\"$(ARCH)\\" >> .config
"""
_BASE = sorted({*base_options("6.1.5"), "CONFIG_CMDLINE_BOOL", "CONFIG_CMDLINE"} - {"CONFIG_PCI"})
_KCONFIG = "".join(f'config {symbol[len("CONFIG_") :]}\n\tbool "of the base"\n' for symbol in _BASE) + (
    'if BLOCK\nconfig BTRFS_FS\n\tbool "Btrfs"\nendif\nconfig HZ\n\tint "HZ"\nconfig PCI\n\tbool "PCI"\nconfig BLOCK\n\tbool "b"\n'
)


def _configure(tmp_path: Path, *options: str, makefile: str = _MAKEFILE, kconfig: str = _KCONFIG) -> Configuration:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    write_tree(tmp_path / "linux", {"Makefile": makefile, "Kconfig": kconfig})
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "kconfig.tar"), "linux"], check=True)
    environment = {"PATH": os.environ["PATH"]}
    return configure(tmp_path / "kconfig.tar", options, environment=environment, make="make", tar="tar", scratch=scratch)


def test_options_come_over_the_base(tmp_path: Path) -> None:
    configuration = _configure(tmp_path, "CONFIG_HZ=100", "CONFIG_PCI=n", "CONFIG_HZ=250")
    lines = configuration.text.splitlines()
    assert configuration.version == "6.1.5"
    assert lines.count("CONFIG_HZ=250") == 1
    assert "CONFIG_HZ=100" not in lines, "the last of a repeated option counts"
    assert "# CONFIG_PCI is not set" in lines
    assert "CONFIG_PCI=y" not in lines
    assert "CONFIG_64BIT=y" in lines
    assert 'CONFIG_ARCH="x86_64"' in lines
    assert f'CONFIG_CMDLINE="{COMMAND_LINE_MARKER.decode()}"' in lines


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match=r"kernel_config: there is no option CONFIG_BTRFS in Linux 6\.1\.5"):
        _configure(tmp_path, "CONFIG_BTRFS=y")


def test_a_malformed_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="kernel_config: 'BTRFS_FS' is no kernel option"):
        _configure(tmp_path, "BTRFS_FS")


def test_an_option_that_is_dropped_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match=r"CONFIG_BTRFS_FS=y comes out as CONFIG_BTRFS_FS=n \(it depends on BLOCK\)"):
        _configure(tmp_path, "CONFIG_BTRFS_FS=y", "CONFIG_PCI=y")


def test_a_base_that_a_kernel_cannot_satisfy_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="the base configuration: Linux 6.1.5 cannot satisfy CONFIG_PCI=y"):
        _configure(tmp_path, makefile=_MAKEFILE.replace("BTRFS", "CONFIG_PCI="))


@pytest.mark.parametrize("options", [[], ["CONFIG_PCI=y"]])
def test_an_option_of_the_base_that_a_kernel_does_not_have_is_an_error(tmp_path: Path, options: list[str]) -> None:
    """As when it was renamed: also below an image's own options, which may switch off others of the base."""
    with pytest.raises(UnikernelError, match=r"base configuration of unikernel has CONFIG_NET, but Linux 6\.1\.5 .*6\.12"):
        _configure(tmp_path, *options, kconfig=_KCONFIG.replace("config NET\n", "config NETWORK\n"))


def test_a_configuration_step_that_fails_shows_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="configuration step failed:\n(.*\n)*no compiler"):
        _configure(tmp_path, makefile=_MAKEFILE.replace("\tgrep", "\t@echo no compiler; exit 1\n\tgrep"))
