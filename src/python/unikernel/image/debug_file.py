"""The file of debugging information beside an image, NAME.elf.debug: for gdb, and for whoever looks up addresses in a crash report.

It is an ELF file with the symbols of the image's kernel at their addresses, the image's manifest (and so its build id), and in a section
a tar archive of the debug parts of the programs in the image, each by its path without the leading slash.
"""

from __future__ import annotations

import posixpath
import stat
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from unikernel.blocks import copy_bytes
from unikernel.elf import ELF_MAGIC
from unikernel.errors import UnikernelError
from unikernel.image import manifest as image_manifest
from unikernel.image.attachment import Section, append_sections, find_section, manifest_section
from unikernel.image.debug_parts import has_symbols, write_debug_parts
from unikernel.rootfs.merge import merged_rootfs

PROGRAMS_SECTION = ".unikernel.debug"
# Of tar (POSIX, "ustar Interchange Format").
_BLOCK = 512
_MAGIC, _MAGIC_OFFSET = b"ustar", 257


def build_id(path: Path) -> str:
    """Of an image or a debug file, in hex: that of its manifest. An image of Linux has it as its GNU build id, too. Raises UnikernelError
    for other files.
    """
    return image_manifest.build_id_of(image_manifest.read_descriptor(path))


def find_debug_file(image: Path, named: Path | None = None) -> Path | None:
    """The one that is named, or the one beside the image, if that is its own. Raises UnikernelError for a named one that is another's."""
    if named is not None:
        check_debug_file(image, named)
        return named
    beside = image.with_name(f"{image.name}.debug")
    if not beside.exists():
        return None
    try:
        check_debug_file(image, beside)
    except UnikernelError as error:
        print(f"unikernel: it is not used: {error}", file=sys.stderr)
        return None
    return beside


def check_debug_file(image: Path, debug_file: Path) -> None:
    """Raises UnikernelError for a debug file of another image."""
    own, other = build_id(image), build_id(debug_file)
    if own != other:
        raise UnikernelError(
            f"{debug_file} is the debug file of another image: its build id is {other}, and that of {image} is {own}. Package both at once."
        )


def write_debug_file(image: Path, output: Path, *, symbols: Path, programs: Mapping[str, Path], scratch: Path) -> None:
    """`symbols` is the ELF file that the image was made of, before it was stripped; `programs` are ELF files by their paths in the image
    (with the leading slash), as they were before.

    Raises UnikernelError when none of them has symbols.
    """
    if not programs and not has_symbols(symbols):
        raise UnikernelError(
            f"There is nothing to debug {image.name} with: neither {symbols.name} nor a program in it has symbols."
        )
    parts, archive = scratch / "kernel.debug", scratch / "programs.tar"
    write_debug_parts(symbols, parts)
    _write_programs(programs, archive, scratch)
    note = image_manifest.note(image_manifest.read_descriptor(image))
    append_sections(parts, [Section(PROGRAMS_SECTION, "SHT_PROGBITS", archive, _BLOCK), manifest_section(note)], output)


def _write_programs(programs: Mapping[str, Path], archive: Path, scratch: Path) -> None:
    parts = scratch / "program.debug"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path, program in sorted(programs.items()):
            write_debug_parts(program, parts)
            # A name and a size, and no time nor owner: the same bytes each time.
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = parts.stat().st_size
            with parts.open("rb") as stream:
                tar.addfile(member, stream)


def programs_with_symbols(layers: Sequence[Path], stripped: Mapping[str, Path], scratch: Path) -> dict[str, Path]:
    """The programs and libraries of a root file system that have symbols, by their paths in it. `layers` are its archives; `stripped` are
    files as they were before symbols were taken from them, by their paths.
    """
    found = {}
    copies = scratch / "programs"
    copies.mkdir()
    with merged_rootfs(layers) as rootfs:
        for number, (path, entry) in enumerate(rootfs.entries.items()):
            if not stat.S_ISREG(entry.mode) or entry.open().read(len(ELF_MAGIC)) != ELF_MAGIC:
                continue
            source = stripped.get(path)
            if source is None:
                source = copies / str(number)
                rootfs.write_file(path, source)
            if has_symbols(source):
                found[path] = source
    return found


@contextmanager
def _programs(debug_file: Path) -> Iterator[tarfile.TarFile]:
    build_id(debug_file)
    start, _ = find_section(debug_file, PROGRAMS_SECTION)
    with debug_file.open("rb") as stream:
        stream.seek(start)
        first = stream.read(_BLOCK)
        # For tarfile, nonsense that is not at the start of a file is the end of an archive.
        if not first.startswith(_MAGIC, _MAGIC_OFFSET) and any(first):
            raise UnikernelError(f"The programs in {debug_file} cannot be read: they are no tar archive.")
        stream.seek(start)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                yield tar
        except (tarfile.TarError, EOFError) as error:
            raise UnikernelError(f"The programs in {debug_file} cannot be read: {error}.") from error


def program_names(debug_file: Path) -> list[str]:
    """Of the programs whose debug parts the file has. Raises UnikernelError for what is no debug file."""
    with _programs(debug_file) as tar:
        return tar.getnames()


def open_program(debug_file: Path, program: str) -> BinaryIO | None:
    """The debug parts of a program, an ELF file: a copy that is gone when it is closed. `program` is its path in the image, with or
    without the leading slash; None when there is nothing about it. Raises UnikernelError for what is no debug file.
    """
    with _programs(debug_file) as tar:
        try:
            member = tar.getmember(program.lstrip("/"))
        except KeyError:
            return None
        content = tar.extractfile(member)
        if content is None:
            return None
        copy = tempfile.TemporaryFile()
        copy_bytes(content, copy, member.size)  # type: ignore[arg-type]
        copy.seek(0)
        return copy  # type: ignore[return-value]


def extract_programs(debug_file: Path, directory: Path) -> dict[str, Path]:
    """Writes the debug parts of all programs below `directory`; returns them by the programs' paths without the leading slash. Raises
    UnikernelError for what is no debug file.
    """
    programs = {}
    with _programs(debug_file) as tar:
        for member in tar:
            content = tar.extractfile(member)
            # Debug files are not signed.
            if content is None or member.name.startswith("/") or posixpath.normpath(f"/{member.name}") != f"/{member.name}":
                raise UnikernelError(f"{debug_file} has {member.name!r} in it, which is no path of a program.")
            path = directory / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as stream:
                copy_bytes(content, stream, member.size)  # type: ignore[arg-type]
            programs[member.name] = path
    return programs
