from __future__ import annotations

import pytest

from unikernel.library_os import find_library_os
from unikernel.run.accelerator import choose_accelerator
from unikernel.run.command import BootFiles

_LINUX = find_library_os("linux")
MICROVM = _LINUX.machines["microvm"]


def test_an_accelerator_that_is_asked_for_is_not_questioned() -> None:
    assert choose_accelerator("tcg", "/none/qemu", _LINUX, MICROVM, BootFiles("/none/image"), "64M") == "tcg"
    assert choose_accelerator("kvm", "/none/qemu", _LINUX, MICROVM, BootFiles("/none/image"), "64M") == "kvm"


def test_without_a_qemu_that_runs_a_guest_under_kvm_its_own_emulation_is_taken() -> None:
    assert choose_accelerator("auto", "/none/qemu", _LINUX, MICROVM, BootFiles("/none/image"), "64M") == "tcg"


def test_kvm_is_taken_unasked_only_where_something_proves_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nanos = find_library_os("nanos")
    monkeypatch.setattr("os.access", lambda path, mode: True)
    files = BootFiles("/none/image")
    assert choose_accelerator("auto", "/none/qemu", nanos, nanos.machines["q35"], files, "64M") == "tcg"
    assert "nothing short of the application proves that KVM runs nanos here" in capsys.readouterr().err
    assert choose_accelerator("kvm", "/none/qemu", nanos, nanos.machines["q35"], files, "64M") == "kvm"
