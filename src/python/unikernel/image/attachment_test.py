from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from unikernel.errors import UnikernelError
from unikernel.image.attachment import (
    ROOTFS_SECTION,
    SECTOR,
    Section,
    append_sections,
    append_trailer,
    manifest_section,
    read_section,
    read_trailer,
)
from unikernel.image.manifest import note
from unikernel.testing.programs import compile_c, program

_ROOTFS = bytes(range(256)) * 40


def _appended(tmp_path: Path, source: Path) -> Path:
    content = tmp_path / "rootfs"
    content.write_bytes(_ROOTFS)
    image = tmp_path / "image.elf"
    append_sections(source, [Section(ROOTFS_SECTION, "SHT_PROGBITS", content, 4096), manifest_section(note(b"manifest"))], image)
    return image


def test_sections_are_read_back_by_other_tools(tmp_path: Path) -> None:
    image = _appended(tmp_path, program(tmp_path / "a"))
    with image.open("rb") as stream:
        elf = ELFFile(stream)
        rootfs = elf.get_section_by_name(ROOTFS_SECTION)
        assert rootfs.data() == _ROOTFS
        assert rootfs["sh_offset"] % 4096 == 0 and rootfs["sh_flags"] == 0
        (found,) = elf.get_section_by_name(".note.unikernel").iter_notes()
        assert (found["n_name"], found["n_descdata"]) == ("unikernel", b"manifest")
    printed = subprocess.run(["readelf", "-SW", image], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    assert b"arning" not in printed
    copied = io.BytesIO()
    assert read_section(image, ROOTFS_SECTION, copied) == len(_ROOTFS)
    assert copied.getvalue() == _ROOTFS


@pytest.mark.parametrize("flags", [[], ["-m32", "-nostdlib", "-static"]])
def test_what_was_there_stays_where_it_is(tmp_path: Path, flags: list[str]) -> None:
    source = compile_c(tmp_path / "a", "int main(void) { return 7; }\nvoid _start_(void) {}\n", *flags, "-Wl,-e,main")
    before = source.read_bytes()
    after = _appended(tmp_path, source).read_bytes()
    # The ELF header's offset and number of sections are another.
    header = 64
    assert after[header : len(before)] == before[header:]
    with source.open("rb") as old, (tmp_path / "image.elf").open("rb") as new:
        segments = [[segment.header for segment in ELFFile(stream).iter_segments()] for stream in (old, new)]
    assert segments[0] == segments[1]


def test_a_second_manifest_takes_the_place_of_the_first(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    append_sections(program(tmp_path / "a"), [manifest_section(note(b"first"))], first)
    append_sections(first, [manifest_section(note(b"second"))], second)
    with second.open("rb") as stream:
        notes = [found for section in ELFFile(stream).iter_sections("SHT_NOTE") for found in section.iter_notes()]
    assert [found["n_descdata"] for found in notes if found["n_name"] == "unikernel"] == [b"second"]


def test_a_program_with_sections_still_runs(tmp_path: Path) -> None:
    image = _appended(tmp_path, compile_c(tmp_path / "a", "int main(void) { return 7; }\n"))
    image.chmod(0o755)
    assert subprocess.run([image]).returncode == 7


def test_what_has_no_sections_cannot_get_one(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(UnikernelError, match="text is not a well-formed ELF file"):
        _appended(tmp_path, tmp_path / "text")
    bare = program(tmp_path / "bare")
    data = bytearray(bare.read_bytes())
    # e_shoff, e_shnum and e_shstrndx
    data[40:48] = bytes(8)
    data[60:64] = bytes(4)
    bare.write_bytes(data)
    with pytest.raises(UnikernelError, match="bare has no table of sections"):
        _appended(tmp_path, bare)
    with pytest.raises(UnikernelError, match=r"a has no section \.unikernel\.rootfs"):
        read_section(program(tmp_path / "a"), ROOTFS_SECTION, io.BytesIO())


@pytest.mark.parametrize("size", [1, SECTOR, 5000])
def test_a_disk_has_whole_sectors_and_its_note_behind_them(tmp_path: Path, size: int) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\1" * size)
    append_trailer(disk, b"a note", tmp_path / "image")
    content = (tmp_path / "image").read_bytes()
    assert content[:size] == disk.read_bytes() and len(content) % SECTOR == 0
    with (tmp_path / "image").open("rb") as stream:
        assert read_trailer(stream) == (-(-size // SECTOR) * SECTOR, b"a note")


@pytest.mark.parametrize("content", [b"", b"\0" * SECTOR, b"\0" * 4 * SECTOR, b"\0" * 4 * SECTOR + b"x"])
def test_other_files_have_no_trailer(content: bytes) -> None:
    assert read_trailer(io.BytesIO(content)) is None


@pytest.mark.parametrize("position", range(16, 32))
def test_a_trailer_that_lies_is_none(tmp_path: Path, position: int) -> None:
    (tmp_path / "disk").write_bytes(b"\1" * 2000)
    append_trailer(tmp_path / "disk", b"a note", tmp_path / "image")
    content = bytearray((tmp_path / "image").read_bytes())
    content[len(content) - SECTOR + position] ^= 0x7F
    found = read_trailer(io.BytesIO(content))
    assert found is None or found[0] + len(found[1]) <= len(content) - SECTOR
