"""Holds what a user brings for a library OS against its description."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from unikernel.elf import ElfKind, is_elf, read_elf_file
from unikernel.errors import UnikernelError
from unikernel.library_os.description import InputKind, LibraryOs


def check_inputs(library_os: LibraryOs, inputs: Mapping[str, Path]) -> None:
    """Raises UnikernelError for an input that is missing, of another kind or for another machine than the description says."""
    missing = sorted(set(library_os.inputs) - set(inputs))
    if missing:
        wanted = ", ".join(f"{name} ({library_os.inputs[name].what})" for name in missing)
        raise UnikernelError(f"{library_os.name} needs {wanted}. Such are published as: {library_os.published}.")
    for name, path in sorted(inputs.items()):
        item = library_os.inputs.get(name)
        if item is None:
            raise UnikernelError(f"{library_os.name} has no input {name!r}; it needs {', '.join(library_os.inputs) or 'nothing'}.")
        origin = f"The {name} of {library_os.name}, {path}"
        if not path.is_file():
            raise UnikernelError(f"{origin}, is no file.")
        if item.kind is InputKind.ELF:
            _check_elf(origin, path, item.machine or library_os.architecture, item.what)
        elif item.kind is InputKind.PROGRAM and not os.access(path, os.X_OK):
            raise UnikernelError(f"{origin}, cannot be run: it is {item.what}.")


def _check_elf(origin: str, path: Path, machine: str, what: str) -> None:
    if not is_elf(path):
        raise UnikernelError(f"{origin}, is no ELF file: it is to be {what}.")
    facts = read_elf_file(path)
    if facts.machine != machine:
        raise UnikernelError(f"{origin}, is for {facts.machine}, and is to be for {machine}: {what}.")
    if facts.kind not in (ElfKind.STATIC, ElfKind.STATIC_PIE):
        raise UnikernelError(f"{origin}, is an ELF {facts.kind.value} file, which is no kernel: it is to be {what}.")
