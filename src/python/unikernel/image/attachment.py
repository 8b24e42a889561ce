"""Adds what nothing loads to a finished image: sections behind the end of an ELF file, or a trailer behind that of a disk.

All that was there stays at its offset. That matters: some kernels have their multiboot header in a gap that no section covers, and
objcopy moves or drops it.
"""

from __future__ import annotations

import copy
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from unikernel.blocks import Writer, copy_bytes
from unikernel.elf import parser_failures
from unikernel.errors import UnikernelError
from unikernel.rootfs.cpio import PAGE

ROOTFS_SECTION = ".unikernel.rootfs"
_NOTE_SECTION = ".note.unikernel"
# A disk's last sector: where the note starts, and its size, both in bytes and little-endian.
SECTOR = 512
_TRAILER_MAGIC = b"unikernel-note\0\1"
_TRAILER = struct.Struct("<16sQQ")
_ALIGNMENT = 8
# Far more than a manifest: what a damaged trailer can make a reader read.
_LARGEST_NOTE = 16 * 2**20


@dataclass(frozen=True)
class Section:
    """`type` is ELF's, such as "SHT_PROGBITS"; `content` is a file or bytes."""

    name: str
    type: str
    content: Path | bytes
    alignment: int = 1


def manifest_section(note: bytes) -> Section:
    return Section(_NOTE_SECTION, "SHT_NOTE", note, 4)


def append_sections(program: Path, sections: Sequence[Section], output: Path) -> None:
    """Writes `program`, an ELF file, with further sections to `output`: in place of those that it has by the same names. Raises
    UnikernelError for a file without a section table.

    Of what was there, the ELF header changes in where the section table is, and how long; the new table and the new names of sections
    come last (gABI, "ELF Header" and "Sections").
    """
    from elftools.elf.elffile import ELFFile

    with program.open("rb") as source:
        try:
            elf = ELFFile(source)
            header, structs = elf.header, elf.structs
            replaced = {section.name for section in sections}
            table = [_retired(section.header) if section.name in replaced else section.header for section in elf.iter_sections()]
            names = elf.get_section(header.e_shstrndx).data() if table else b""
        except parser_failures() as error:
            raise UnikernelError(f"{program.name} is not a well-formed ELF file: {str(error) or type(error).__name__}.") from error
    if not table or header.e_shstrndx >= len(table):
        raise UnikernelError(f"{program.name} has no table of sections, so none can be added to it.")
    shutil.copyfile(program, output)
    with output.open("r+b") as stream:
        stream.seek(0, 2)
        # A multiboot header may have whole pages loaded, of which a stripped file lacks the end.
        _append(stream, b"", PAGE)
        for section in sections:
            table.append(_section_header(table[0], section, len(names), _append(stream, section.content, section.alignment)))
            names += section.name.encode() + b"\0"
        strings = table[header.e_shstrndx]
        strings.sh_offset, strings.sh_size = _append(stream, names, 1)
        header.e_shnum = len(table)
        header.e_shoff, _ = _append(stream, b"".join(structs.Elf_Shdr.build(entry) for entry in table), _ALIGNMENT)
        stream.seek(0)
        stream.write(structs.Elf_Ehdr.build(header))


def without_sections(image: Path, first: str, output: Path) -> None:
    """Writes what `append_sections` was given to `output`, but for its table of sections: `first` names the first one that was appended.

    Nothing that boots is lost: what is loaded is in segments, or where a multiboot header says.
    """
    from elftools.elf.elffile import ELFFile

    with image.open("rb") as source, output.open("wb") as stream:
        elf = ELFFile(source)
        header, section = elf.header, elf.get_section_by_name(first)
        assert section is not None
        source.seek(0)
        copy_bytes(source, stream, section["sh_offset"])
        header.e_shoff = header.e_shnum = header.e_shstrndx = 0
        stream.seek(0)
        stream.write(elf.structs.Elf_Ehdr.build(header))


def _retired(header: Any) -> Any:
    """An entry of the table that nobody looks at."""
    header.sh_type, header.sh_name, header.sh_size = "SHT_NULL", 0, 0
    return header


def _section_header(first: Any, section: Section, name: int, place: tuple[int, int]) -> Any:
    """`first` is the table's own first entry, which is all zeros."""
    header = copy.deepcopy(first)
    header.sh_name, header.sh_type, header.sh_addralign = name, section.type, section.alignment
    header.sh_offset, header.sh_size = place
    return header


def _append(stream: BinaryIO, content: Path | bytes, alignment: int) -> tuple[int, int]:
    """Offset and size of what was written."""
    stream.write(bytes(-stream.tell() % alignment))
    start = stream.tell()
    if isinstance(content, bytes):
        stream.write(content)
    else:
        with content.open("rb") as source:
            shutil.copyfileobj(source, stream, 1 << 20)
    return start, stream.tell() - start


def find_section(image: Path, name: str) -> tuple[int, int]:
    """A section's offset and size. Raises UnikernelError when there is none of this name."""
    from elftools.elf.elffile import ELFFile

    with image.open("rb") as stream:
        try:
            section = ELFFile(stream).get_section_by_name(name)
            start, size = (section["sh_offset"], section["sh_size"]) if section is not None else (0, -1)
        except parser_failures() as error:
            raise UnikernelError(f"{image} is not a well-formed ELF file: {str(error) or type(error).__name__}.") from error
    if size < 0:
        raise UnikernelError(f"{image} has no section {name}.")
    return start, size


def read_section(image: Path, name: str, output: Writer) -> int:
    """Copies a section's content to `output`; returns its size. Raises UnikernelError when there is none of this name."""
    start, size = find_section(image, name)
    with image.open("rb") as stream:
        stream.seek(start)
        return copy_bytes(stream, output, size)


# --- disks --------------------------------------------------------------------------------------------------------


def append_trailer(disk: Path, note: bytes, output: Path) -> None:
    """Writes `disk` to `output`, with the note behind its last sector, and a sector at the end that says where it is."""
    shutil.copyfile(disk, output)
    with output.open("r+b") as stream:
        stream.seek(0, 2)
        start, size = _append(stream, note, SECTOR)
        _append(stream, _TRAILER.pack(_TRAILER_MAGIC, start, size).ljust(SECTOR, b"\0"), SECTOR)


def read_trailer(stream: BinaryIO) -> tuple[int, bytes] | None:
    """The size of the disk without the trailer, with the note that is behind it; None where there is no trailer."""
    end = stream.seek(0, 2)
    if end < 2 * SECTOR or end % SECTOR:
        return None
    stream.seek(end - SECTOR)
    magic, start, size = _TRAILER.unpack(stream.read(_TRAILER.size))
    if magic != _TRAILER_MAGIC or start % SECTOR or size > _LARGEST_NOTE or start + size > end - SECTOR:
        return None
    stream.seek(start)
    return start, stream.read(size)
