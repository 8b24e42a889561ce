from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from unikernel.elf import strip_elf
from unikernel.errors import UnikernelError
from unikernel.image.debug_parts import has_symbols, write_debug_parts
from unikernel.testing.programs import compile_c, for_another_machine, program

_SOURCE = (
    'int seven(int a) { return a + 7; }\nint main(int argc, char **argv) { return seven(argc); }\n#line 70 "there.c"\nint other;\n'
)


def _printed(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, encoding="utf-8").stdout


def _sections(path: Path) -> dict[str, list[str]]:
    lines = [line[6:].split() for line in _printed("readelf", "-SW", path).splitlines() if line.startswith("  [")]
    return {words[0]: words[1:] for words in lines[1:]}


@pytest.mark.parametrize("flags", [("-static", "-no-pie"), ("-static-pie",), ("-pie", "-gz")])
def test_addresses_are_those_of_the_program_and_contents_are_gone(tmp_path: Path, flags: tuple[str, ...]) -> None:
    whole = compile_c(tmp_path / "program", _SOURCE, "-g", "-O0", "-Wl,--build-id=sha1", *flags)
    parts = tmp_path / "parts"
    write_debug_parts(whole, parts)
    before, after = _sections(whole), _sections(parts)
    assert list(before) == list(after)
    # Name: type, address, offset, size.
    assert {name: (words[1], words[3]) for name, words in before.items()} == {
        name: (words[1], words[3]) for name, words in after.items()
    }
    assert (after[".text"][0], after[".data"][0], after[".eh_frame"][0]) == ("NOBITS", "NOBITS", before[".eh_frame"][0])
    (address,) = [line.split()[0] for line in _printed("nm", whole).splitlines() if line.endswith(" seven")]
    assert _printed("addr2line", "-f", "-e", parts, address).split()[0] == "seven"
    assert _printed("addr2line", "-f", "-e", parts, address) == _printed("addr2line", "-f", "-e", whole, address)
    notes = _printed("readelf", "-nW", parts)
    assert "Build ID" in notes and notes == _printed("readelf", "-nW", whole)
    assert "arning" not in _printed("readelf", "-aW", parts)
    # As a debugger needs them to find callers.
    assert _printed("readelf", "--debug-dump=frames", parts) == _printed("readelf", "--debug-dump=frames", whole)


def test_they_are_small_and_the_same_bytes_again(tmp_path: Path) -> None:
    whole = compile_c(tmp_path / "program", "char data[1 << 20] = {1};" + _SOURCE, "-g", "-Wl,-z,max-page-size=0x200000")
    for name in ("one", "other"):
        write_debug_parts(whole, tmp_path / name)
    assert (tmp_path / "one").stat().st_size < 1 << 16
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_what_has_symbols(tmp_path: Path) -> None:
    whole, stripped, text = program(tmp_path / "program"), tmp_path / "stripped", tmp_path / "text"
    strip_elf("strip", whole, stripped)
    text.write_text("#!/bin/sh")
    broken = tmp_path / "broken"
    broken.write_bytes(whole.read_bytes()[:100])
    assert has_symbols(whole)
    assert has_symbols(for_another_machine(whole, tmp_path / "foreign"))
    assert not any(has_symbols(path) for path in (stripped, text, broken, program(tmp_path / "object", "-c")))
    with pytest.raises(UnikernelError, match="broken is not a well-formed ELF file"):
        write_debug_parts(broken, tmp_path / "parts")
