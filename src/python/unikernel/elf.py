"""Facts about ELF files, read with pyelftools.

It is imported where a file is read: most layers have no ELF file in them, and the import costs as much as such a layer's step.
"""

from __future__ import annotations

import mmap
import struct
import subprocess
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from unikernel.errors import UnikernelError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

ELF_MAGIC = b"\x7fELF"
# What certificates' users look for: OpenSSL has its directory compiled in, Go and others have a list of well-known bundles.
_TLS_MARKS = (b'OPENSSLDIR: "', b"/etc/ssl/certs/ca-certificates.crt")


class ElfKind(str, Enum):
    STATIC = "static"
    STATIC_PIE = "static-pie"
    DYNAMIC = "dynamic"
    SHARED_LIBRARY = "shared library"
    OBJECT = "object"


@dataclass(frozen=True)
class ElfFacts:
    """`machine` is named as `uname -m` names it; `interpreter` is PT_INTERP; search paths are as written, with $ORIGIN and all.
    `is_relocatable` tells that it runs at any address (ELF's type ET_DYN).
    """

    kind: ElfKind
    machine: str
    bits: int
    interpreter: str | None
    soname: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    is_relocatable: bool = False


_MACHINES = {
    "EM_X86_64": "x86_64",
    "EM_AARCH64": "aarch64",
    "EM_RISCV": "riscv64",
    "EM_386": "i386",
    "EM_ARM": "arm",
    "EM_PPC64": "ppc64le",
    "EM_S390": "s390x",
    "EM_MIPS": "mips",
}
_DF_1_PIE = 0x08000000
# OSError: by a seek to an offset that no file can have.
_NONSENSE = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    EOFError,
    OSError,
    struct.error,
)


def parser_failures() -> tuple[type[Exception], ...]:
    """What pyelftools raises for files with nonsense in them: its own exceptions, those of the parsers inside it, and Python's."""
    from elftools.common.exceptions import DWARFError, ELFError
    from elftools.construct import ConstructError

    return (ELFError, DWARFError, ConstructError, *_NONSENSE)


def is_elf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == ELF_MAGIC


def read_elf(stream: BinaryIO, name: str) -> ElfFacts:
    """Raises UnikernelError, with `name` in it, for what is not a well-formed ELF file."""
    from elftools.elf.elffile import ELFFile

    try:
        return _read_elf(ELFFile(stream))
    except UnikernelError as error:
        raise UnikernelError(f"{name} cannot be used: {error}.") from error
    except parser_failures() as error:
        raise UnikernelError(f"{name} is not a well-formed ELF file: {str(error) or type(error).__name__}.") from error


def read_elf_file(path: Path) -> ElfFacts:
    with path.open("rb") as stream:
        return read_elf(stream, str(path))


def _read_elf(elf: ELFFile) -> ElfFacts:
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.segments import InterpSegment

    interpreter = None
    soname = None
    needed: list[str] = []
    rpath: list[str] = []
    runpath: list[str] = []
    flags_1 = 0
    dynamic = None
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            interpreter = segment.get_interp_name()
        elif isinstance(segment, DynamicSegment):
            dynamic = segment
    if dynamic is not None:
        for tag in dynamic.iter_tags():
            if tag.entry.d_tag == "DT_NEEDED":
                needed.append(tag.needed)
            elif tag.entry.d_tag == "DT_SONAME":
                soname = tag.soname
            elif tag.entry.d_tag == "DT_RPATH":
                rpath += tag.rpath.split(":")
            elif tag.entry.d_tag == "DT_RUNPATH":
                runpath += tag.runpath.split(":")
            elif tag.entry.d_tag == "DT_FLAGS_1":
                flags_1 = tag.entry.d_val
    machine = elf.header.e_machine
    return ElfFacts(
        kind=_kind(elf, interpreter, dynamic is not None, soname, bool(flags_1 & _DF_1_PIE)),
        machine=_MACHINES.get(machine, str(machine)),
        bits=elf.elfclass,
        interpreter=interpreter,
        soname=soname,
        needed=tuple(needed),
        # The loader ignores DT_RPATH when DT_RUNPATH is there: ld.so(8).
        rpath=() if runpath else tuple(filter(None, rpath)),
        runpath=tuple(filter(None, runpath)),
        is_relocatable=elf.header.e_type == "ET_DYN",
    )


def _kind(elf: ELFFile, interpreter: str | None, has_dynamic: bool, soname: str | None, is_pie: bool) -> ElfKind:
    elf_type = elf.header.e_type
    if elf_type == "ET_EXEC":
        return ElfKind.DYNAMIC if interpreter or has_dynamic else ElfKind.STATIC
    if elf_type == "ET_DYN":
        # libc.so.6 has an interpreter too: it can be run. A program is what says so, or what has no soname.
        if interpreter and elf.header.e_entry and (is_pie or not soname):
            return ElfKind.DYNAMIC
        return ElfKind.STATIC_PIE if is_pie and not interpreter else ElfKind.SHARED_LIBRARY
    if elf_type == "ET_REL":
        return ElfKind.OBJECT
    raise UnikernelError(f"ELF type {elf_type} is nothing that can be run")


def loaded_notes(path: Path, owner: str) -> set[int]:
    """The types of an owner's notes in the segments of an ELF file. Raises UnikernelError for what is not well-formed."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.enums import ENUM_NOTE_N_TYPE
    from elftools.elf.segments import NoteSegment

    with path.open("rb") as stream:
        try:
            segments = [segment for segment in ELFFile(stream).iter_segments() if isinstance(segment, NoteSegment)]
            notes = [note for segment in segments for note in segment.iter_notes() if note["n_name"] == owner]
        except parser_failures() as error:
            raise UnikernelError(f"{path} is not a well-formed ELF file: {str(error) or type(error).__name__}.") from error
    # Types that another owner has a meaning for come with that meaning's name.
    numbers: dict[str, Any] = ENUM_NOTE_N_TYPE
    return {numbers.get(note["n_type"], note["n_type"]) for note in notes}


def speaks_tls(path: Path) -> bool:
    """Whether the file has a TLS implementation compiled in that looks for certificates in the file system."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(mark) >= 0 for mark in _TLS_MARKS)


def openssl_directory(path: Path) -> str | None:
    """The directory that an OpenSSL in this file looks in (`OPENSSLDIR`), where `cert.pem` is its default bundle."""
    if path.stat().st_size == 0:
        return None
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_TLS_MARKS[0])
        if start < 0:
            return None
        start += len(_TLS_MARKS[0])
        end = data.find(b'"', start, start + 4096)
        return data[start:end].decode(errors="replace") if end > 0 else None


def strip_elf(strip: str, source: Path, destination: Path) -> None:
    """Writes a copy without symbols and debugging information, which nothing in an image reads. `strip` is GNU or LLVM strip."""
    result = subprocess.run(
        [strip, "--strip-unneeded", "-o", str(destination), str(source)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if result.returncode != 0:
        raise UnikernelError(f"{strip} failed on {source}: {result.stdout.decode(errors='replace').strip()}")
