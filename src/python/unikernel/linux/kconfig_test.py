from __future__ import annotations

from pathlib import Path

import pytest

from unikernel.linux.kconfig import Kconfig
from unikernel.testing.python import write_tree

_ROOT = """\
mainmenu "Linux/$(ARCH) Kernel Configuration"
source "arch/$(SRCARCH)/Kconfig"
if BLOCK
source "fs/Kconfig"
endif # BLOCK

menu "Networking"
    depends on NET
config WIFI
    bool "Wireless" if EXPERT
    default y
    select CRYPTO if MORE
    help
      Not an option:

      config FAKE
      depends on NOTHING

config BOTH
    bool "both"
    depends on (A || B) && \\
        !C  # a comment
    depends on $(cc-option,-fx)
endmenu
config HIDDEN
    bool
choice
    prompt "Which"
    depends on CHOOSE
config FIRST
    bool "first"
endchoice
config AFTER
    bool "after the choice"
config NUMBER
    int "number" if SIZE != 0 && KIND = "big"
config TWICE
    bool "once"
    depends on ONE && TWO
config TWICE
    bool "again"
    depends on THREE
config NEWER
    bool "a condition of a condition"
    depends on A if B
config A
    bool "a"
    select HIDDEN
comment "nothing"
    depends on NOBODY
""".replace(
    "    ", "\t"
)


@pytest.fixture()
def kconfig(tmp_path: Path) -> Kconfig:
    files = {
        "Kconfig": _ROOT,
        "arch/x86/Kconfig": 'config X86\n\tdef_bool y\n\nsource "$(srctree)/arch/x86/more"\n',
        "arch/x86/more": "menuconfig MORE\n    bool 'more'\n",
        "arch/arm64/Kconfig": 'config ARM64\n\tbool "arm"\n',
        "fs/Kconfig": 'if MORE\nconfig BTRFS_FS\n\ttristate "Btrfs"\n\tdepends on !PAGE_SIZE_256KB\nendif\nendif\n',
    }
    return Kconfig(write_tree(tmp_path, files), "x86")


def test_the_options_are_those_of_the_architecture(kconfig: Kconfig) -> None:
    for name in ("X86", "MORE", "WIFI", "BTRFS_FS", "FIRST", "AFTER"):
        assert f"CONFIG_{name}" in kconfig
    for name in ("ARM64", "FAKE", "NOTHING", "NET"):
        assert f"CONFIG_{name}" not in kconfig


@pytest.mark.parametrize(
    ("symbol", "final", "reason"),
    [
        ("BTRFS_FS", "", "it depends on BLOCK && MORE"),
        ("BTRFS_FS", "MORE", "it depends on BLOCK"),
        ("BTRFS_FS", "BLOCK MORE PAGE_SIZE_256KB", "it depends on !PAGE_SIZE_256KB"),
        ("BTRFS_FS", "BLOCK MORE", ""),
        ("WIFI", "", "it depends on NET && EXPERT"),
        ("BOTH", "NET C", "it depends on (A || B) && !C"),
        ("BOTH", "NET B", ""),
        ("HIDDEN", "", "it cannot be set by itself, only be selected by other options"),
        ("FIRST", "", "it depends on CHOOSE"),
        ("AFTER", "", ""),
        ("TWICE", "", "it depends on THREE"),
        ("TWICE", "ONE TWO", "it depends on THREE"),
        ("NEWER", "B", "it depends on !B || A"),
        ("NEWER", "", ""),
        ("UNKNOWN", "", ""),
    ],
)
def test_the_reason_is_what_does_not_hold(kconfig: Kconfig, symbol: str, final: str, reason: str) -> None:
    values = {f"CONFIG_{name}": "y" for name in final.split()}
    assert kconfig.reason(f"CONFIG_{symbol}", "y", values) == reason


def test_comparisons(kconfig: Kconfig) -> None:
    assert (
        kconfig.reason("CONFIG_NUMBER", "5", {"CONFIG_SIZE": "0", "CONFIG_KIND": '"small"'})
        == 'it depends on SIZE!=0 && KIND="big"'
    )
    assert kconfig.reason("CONFIG_NUMBER", "5", {"CONFIG_SIZE": "1", "CONFIG_KIND": '"big"'}) == ""


def test_an_option_that_stays_on_is_selected_by_others(kconfig: Kconfig) -> None:
    assert kconfig.reason("CONFIG_HIDDEN", "n", {"CONFIG_A": "y"}) == "it is selected by CONFIG_A"
    assert kconfig.reason("CONFIG_CRYPTO", "n", {"CONFIG_WIFI": "n"}) == ""


def test_a_tree_without_kconfig_has_no_options(tmp_path: Path) -> None:
    assert "CONFIG_X86" not in Kconfig(tmp_path, "x86")
