from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.contents import check_contents
from unikernel.image.manifest import read_manifest
from unikernel.image.spec import ImageSpec, Network
from unikernel.image.stamp import stamp_image
from unikernel.library_os import find_library_os
from unikernel.testing.programs import for_another_machine, program

_PICOLIBC = find_library_os("picolibc")
# A library OS whose programs run here.
_HERE = replace(_PICOLIBC, name="here", architecture="x86_64")
_SPEC = ImageSpec("sieve", target="a:b", network=Network(mode="none"), arguments=("30",), tools={"compiler": "gcc 12"})


def _stamp(tmp_path: Path, spec: ImageSpec = _SPEC, linked: Path | None = None) -> Path:
    output = tmp_path / "image.elf"
    stamp_image(
        spec,
        _HERE,
        "1.8",
        program=linked or program(tmp_path / "program"),
        inputs={"library libc.a": "ab"},
        output=output,
        scratch=tmp_path,
        objcopy="objcopy",
    )
    return output


def test_a_linked_program_says_what_it_is_and_still_runs(tmp_path: Path) -> None:
    image = _stamp(tmp_path)
    manifest = read_manifest(image)
    check_contents(image, manifest)
    assert (manifest.library_os.name, manifest.library_os.version, manifest.architecture) == ("here", "1.8", "x86_64")
    assert list(manifest.start.arguments) == ["sieve", "30"]
    assert manifest.memory_bytes == _HERE.minimum_memory
    assert [item.name for item in manifest.inputs] == ["library libc.a", "program"]
    assert json.loads((tmp_path / "image.json").read_text())["target"] == "a:b"
    assert subprocess.run([image], stdout=subprocess.DEVNULL).returncode == 0
    content = image.read_bytes()
    assert _stamp(tmp_path).read_bytes() == content


def test_declared_memory_counts_where_it_is_more(tmp_path: Path) -> None:
    assert read_manifest(_stamp(tmp_path, replace(_SPEC, memory=64 << 20))).memory_bytes == 64 << 20


def test_a_program_for_another_machine_is_refused(tmp_path: Path) -> None:
    foreign = for_another_machine(program(tmp_path / "a"), tmp_path / "foreign")
    with pytest.raises(UnikernelError, match="foreign is a program for .*, and here is for x86_64"):
        _stamp(tmp_path, linked=foreign)


def test_an_objcopy_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="Cannot strip the program: /none/objcopy cannot be run"):
        stamp_image(
            _SPEC,
            _HERE,
            "",
            program=program(tmp_path / "a"),
            inputs={},
            output=tmp_path / "b",
            scratch=tmp_path,
            objcopy="/none/objcopy",
        )
