from __future__ import annotations

from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.library_os import find_library_os
from unikernel.library_os.inputs import check_inputs
from unikernel.testing.programs import for_another_machine, program, shared_library, tiny_program

_NANOS, _UNIKRAFT = find_library_os("nanos"), find_library_os("unikraft")


def _inputs(tmp_path: Path) -> dict[str, Path]:
    boot, mkfs = tmp_path / "boot.img", tmp_path / "mkfs"
    boot.write_bytes(b"\x55\xaa")
    mkfs.write_text("#!/bin/sh\n")
    mkfs.chmod(0o755)
    return {"kernel": tiny_program(tmp_path / "kernel.img"), "boot": boot, "mkfs": mkfs}


def test_what_fits_is_taken(tmp_path: Path) -> None:
    check_inputs(_NANOS, _inputs(tmp_path))


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path)
    del inputs["kernel"], inputs["mkfs"]
    error = r"nanos needs kernel \(its kernel.img\), mkfs \(its mkfs.*Published as|nanos needs .*Such are published as: NanoVMs' releases"
    with pytest.raises(UnikernelError, match=error):
        check_inputs(_NANOS, inputs)
    with pytest.raises(UnikernelError, match="nanos has no input 'boat'; it needs kernel, boot, mkfs"):
        check_inputs(_NANOS, {**_inputs(tmp_path), "boat": tmp_path / "boot.img"})


def test_a_kernel_of_another_machine_or_kind_is_refused(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path)
    foreign = for_another_machine(inputs["kernel"], tmp_path / "foreign")
    with pytest.raises(UnikernelError, match="The kernel of nanos, .*foreign, is for aarch64, and is to be for x86_64"):
        check_inputs(_NANOS, {**inputs, "kernel": foreign})
    with pytest.raises(UnikernelError, match=r"The kernel of nanos, .*boot.img, is no ELF file: it is to be its kernel.img"):
        check_inputs(_NANOS, {**inputs, "kernel": inputs["boot"]})
    library = shared_library(tmp_path / "lib.so", "f")
    with pytest.raises(UnikernelError, match="is an ELF shared library file, which is no kernel"):
        check_inputs(_NANOS, {**inputs, "kernel": library})
    with pytest.raises(UnikernelError, match="is an ELF dynamic file, which is no kernel"):
        check_inputs(_NANOS, {**inputs, "kernel": program(tmp_path / "dynamic")})
    # QEMU boots a 32-bit one.
    with pytest.raises(UnikernelError, match="is for x86_64, and is to be for i386"):
        check_inputs(_UNIKRAFT, {"kernel": inputs["kernel"]})


def test_a_tool_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    inputs = _inputs(tmp_path)
    with pytest.raises(UnikernelError, match="The mkfs of nanos, .*/none, is no file"):
        check_inputs(_NANOS, {**inputs, "mkfs": tmp_path / "none"})
    inputs["mkfs"].chmod(0o644)
    with pytest.raises(UnikernelError, match="The mkfs of nanos, .*, cannot be run: it is its mkfs, which is not the one of Linux"):
        check_inputs(_NANOS, inputs)
