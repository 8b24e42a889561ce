"""What a debugger needs of an ELF file, without what is executed: the file that goes beside a stripped one.

As `objcopy --only-keep-debug` makes it, and other than that: .eh_frame stays, without which a debugger finds no callers (a debugger that
attaches to a machine has no stripped file at hand to read it from); there are no segments, whose offsets would leave holes as large as
the program; and files for all machines are understood.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unikernel.blocks import copy_bytes
from unikernel.elf import is_elf, parser_failures
from unikernel.errors import UnikernelError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

_SHF_ALLOC = 2
_UNWINDING = ".eh_frame"
_DEBUGGING = (".debug_", ".zdebug_")
_EXECUTED = ("ET_DYN", "ET_EXEC")


def has_symbols(path: Path) -> bool:
    """Whether the file is a program or a library that a debugger finds anything in: a table of symbols, or DWARF."""
    from elftools.elf.elffile import ELFFile

    if not is_elf(path):
        return False
    with path.open("rb") as stream:
        try:
            elf = ELFFile(stream)
            return elf.header.e_type in _EXECUTED and any(
                section["sh_type"] == "SHT_SYMTAB" or section.name.startswith(_DEBUGGING) for section in elf.iter_sections()
            )
        except parser_failures():
            return False


def write_debug_parts(source: Path, output: Path) -> None:
    """Writes them of the ELF file `source`: all sections at their addresses, with what is in memory as SHT_NOBITS, but for notes (a build
    id is one) and unwinding tables. Raises UnikernelError for what is not a well-formed ELF file.
    """
    from elftools.elf.elffile import ELFFile

    with source.open("rb") as stream:
        try:
            _write(ELFFile(stream), output)
        except parser_failures() as error:
            raise UnikernelError(f"{source.name} is not a well-formed ELF file: {str(error) or type(error).__name__}.") from error


def _write(elf: ELFFile, output: Path) -> None:
    header, structs = elf.header, elf.structs
    table = []
    with output.open("wb") as stream:
        stream.write(bytes(header.e_ehsize))
        for section in elf.iter_sections():
            entry = section.header
            if _is_executed(section):
                entry.sh_type = "SHT_NOBITS"
            stream.write(bytes(-stream.tell() % max(entry.sh_addralign, 1) if entry.sh_type != "SHT_NOBITS" else 0))
            start, entry.sh_offset = entry.sh_offset, 0 if entry.sh_type == "SHT_NULL" else stream.tell()
            if entry.sh_type not in ("SHT_NULL", "SHT_NOBITS"):
                elf.stream.seek(start)
                # As it is, compressed or not.
                copy_bytes(elf.stream, stream, entry.sh_size)
            table.append(entry)
        stream.write(bytes(-stream.tell() % 8))
        header.e_shoff, header.e_shnum = stream.tell(), len(table)
        header.e_phoff = header.e_phnum = header.e_phentsize = 0
        stream.write(b"".join(structs.Elf_Shdr.build(entry) for entry in table))
        stream.seek(0)
        stream.write(structs.Elf_Ehdr.build(header))


def _is_executed(section: Any) -> bool:
    return (
        bool(section["sh_flags"] & _SHF_ALLOC) and section["sh_type"] not in ("SHT_NOTE", "SHT_NULL") and section.name != _UNWINDING
    )
