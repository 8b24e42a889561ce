"""Functions and source lines of addresses in a program."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unikernel.elf import parser_failures

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

# For debugging information of some hundred MB.
_PATIENCE_SECONDS = 60
_UNKNOWN = "??"
_BUILD_ID = "NT_GNU_BUILD_ID"


@dataclass(frozen=True)
class Location:
    """`source` and `line` are None where they are not known; `is_inlined` tells that the function is part of the next one."""

    function: str
    source: str | None = None
    line: int | None = None
    is_inlined: bool = False


def build_id(elf: ELFFile) -> str | None:
    """The GNU build id, in hex."""
    try:
        for section in elf.iter_sections("SHT_NOTE"):
            for note in section.iter_notes():
                if note["n_type"] == _BUILD_ID and note["n_name"] == "GNU":
                    return str(note["n_desc"])
    except parser_failures():
        pass
    return None


def locations(program: Path, addresses: Sequence[int]) -> dict[int, list[Location]]:
    """By the debugging information and the symbols of an ELF file; functions that are inlined come before those that they are in. An
    address of which nothing is known is left out.

    Asks addr2line of the binutils, where it is on PATH: it reads all formats of debugging information, quickly also where there is much
    of it, knows what is inlined, and demangles C++ and Rust. pyelftools, which could tell lines as well, does none of these.
    """
    addr2line = shutil.which("addr2line")
    if addr2line is None or not addresses:
        return {}
    command = [addr2line, "--functions", "--inlines", "--demangle", "--addresses", f"--exe={program}"]
    output = _output_of([*command, *(f"{address:#x}" for address in addresses)])
    return {} if output is None else parse_addr2line(output)


def parse_addr2line(output: str) -> dict[int, list[Location]]:
    """What `addr2line --functions --inlines --addresses` prints: a line with the address, and for each function one with its name and one
    with the place.
    """
    found: dict[int, list[Location]] = {}
    lines = iter(output.splitlines())
    current: list[tuple[str, str]] = []
    address = None
    for line in lines:
        if line.startswith("0x"):
            if address is not None:
                found[address] = _located(current)
            address, current = int(line, 16), []
        else:
            current.append((line, next(lines, "")))
    if address is not None:
        found[address] = _located(current)
    return {address: places for address, places in found.items() if places}


def _located(pairs: Sequence[tuple[str, str]]) -> list[Location]:
    places = []
    for number, (function, place) in enumerate(pairs):
        if function == _UNKNOWN:
            continue
        # "file:12", "file:12 (discriminator 3)", "file:?" or "??:0".
        source, _, line = place.split(" (discriminator", 1)[0].rpartition(":")
        is_known = source != _UNKNOWN and line.isdigit() and int(line) > 0
        places.append(
            Location(function, source if is_known else None, int(line) if is_known else None, is_inlined=number < len(pairs) - 1)
        )
    return places


def dynamic_symbols(elf: ELFFile, addresses: Sequence[int]) -> dict[int, Location]:
    """By the names that a file exports, which are also in one without symbols. A name is demangled where c++filt is on PATH."""
    found: dict[int, str] = {}
    try:
        section = elf.get_section_by_name(".dynsym")
        if section is None:
            return {}
        for symbol in section.iter_symbols():
            if symbol.entry.st_info.type not in ("STT_FUNC", "STT_LOOS") or symbol.entry.st_shndx == "SHN_UNDEF":
                continue
            for address in addresses:
                if 0 <= address - symbol.entry.st_value < symbol.entry.st_size:
                    found.setdefault(address, symbol.name)
    except parser_failures():
        pass
    return {address: Location(name) for address, name in zip(found, demangled(list(found.values())))}


def demangled(names: Sequence[str]) -> Sequence[str]:
    filt = shutil.which("c++filt")
    if filt is None or not any(name.startswith(("_Z", "_R")) for name in names):
        return names
    output = _output_of([filt], input="".join(f"{name}\n" for name in names))
    lines = [] if output is None else output.splitlines()
    return lines if len(lines) == len(names) else names


def _output_of(command: Sequence[str], input: str = "") -> str | None:
    """None when the program cannot be run, or takes too long."""
    try:
        result = subprocess.run(
            command,
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_SECONDS,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout
