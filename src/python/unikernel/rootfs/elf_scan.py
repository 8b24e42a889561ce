"""What a layer's ELF files need and provide: the part of the closure that needs no other machine than the layer itself."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path

from unikernel.elf import ELF_MAGIC, ElfFacts, ElfKind, openssl_directory, read_elf, speaks_tls
from unikernel.errors import UnikernelError
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.libraries import (
    candidates,
    check_machine,
    default_directories,
    expand_search_path,
    provided_by_loader,
)


def scan_elf_files(layer: Layer, index: LayerIndex, machine: str, roots: list[str] | None = None) -> dict[str, ElfFacts]:
    """Fills in the index's `provides`, `needs`, `programs` and `tls`, and returns the facts of each ELF file by path.

    `roots` limits what must work to these files and what they lead to inside the layer: an archive may well hold files for other
    machines that are never loaded. Without it, every ELF file counts.
    """
    facts, malformed = _elf_facts(layer)
    for path in roots or ():
        if path in malformed:
            raise malformed[path]
    for path, elf in facts.items():
        if elf.kind in (ElfKind.SHARED_LIBRARY, ElfKind.DYNAMIC) and elf.machine == machine:
            index.provides.setdefault(elf.soname or posixpath.basename(path), path)
            index.provides.setdefault(posixpath.basename(path), path)
    queue = list(facts) if roots is None else [path for path in roots if path in facts]
    seen: set[str] = set()
    while queue:
        path = queue.pop(0)
        if path in seen:
            continue
        seen.add(path)
        elf = facts[path]
        if elf.kind is ElfKind.OBJECT:
            continue
        if roots is None and elf.machine != machine:
            # Data that happens to be ELF, such as a test's fixture: only what is loaded has to fit.
            continue
        check_machine(elf, path, machine)
        if elf.interpreter and elf.kind is ElfKind.DYNAMIC:
            index.programs.setdefault(elf.interpreter, path)
        queue += _resolve_inside(layer, index, facts, path, elf)
    return {path: elf for path, elf in facts.items() if path in seen}


def _elf_facts(layer: Layer) -> tuple[dict[str, ElfFacts], dict[str, UnikernelError]]:
    facts: dict[str, ElfFacts] = {}
    malformed: dict[str, UnikernelError] = {}
    for path in layer.regular_files():
        with layer.open(path) as stream:
            if stream.read(4) != ELF_MAGIC:
                continue
            stream.seek(0)
            try:
                facts[path] = read_elf(stream, path)
            except UnikernelError as error:
                # Broken on purpose, as in a parser's test data, unless it has to run.
                malformed[path] = error
    return facts, malformed


def note_tls(layer: Layer, index: LayerIndex, facts: dict[str, ElfFacts]) -> None:
    """Tells whether certificates are needed, and the directory in which an OpenSSL of this layer looks for them."""
    for path in facts:
        with layer.open(path) as stream:
            source = getattr(stream, "name", None)
        if source is None or not speaks_tls(Path(source)):
            continue
        index.tls = True
        directory = openssl_directory(Path(source))
        if directory and directory.startswith("/"):
            index.facts.setdefault("openssl_directories", [])
            if directory not in index.facts["openssl_directories"]:
                index.facts["openssl_directories"].append(directory)


def _resolve_inside(layer: Layer, index: LayerIndex, facts: dict[str, ElfFacts], path: str, elf: ElfFacts) -> list[str]:
    """The files of this layer that the loader would take for what `path` needs; what is not here goes to `index.needs`."""
    found = []
    origin = posixpath.dirname(path)
    search = [expand_search_path(entry, origin, elf.machine) for entry in (*elf.rpath, *elf.runpath)]
    defaults = default_directories(elf.machine, Path("/nonexistent"), elf.interpreter)
    for soname in elf.needed:
        if provided_by_loader(soname, elf.interpreter):
            continue
        for wanted in candidates(soname, origin, elf.machine, (*search, *defaults)):
            candidate = follow(layer, posixpath.normpath(wanted))
            if candidate in facts and facts[candidate].machine == elf.machine:
                found.append(candidate)
                break
        else:
            # Python imports a wheel's libraries from wherever they are (preloaded, or by an RPATH of another module).
            if soname in index.provides:
                found.append(index.provides[soname])
            elif soname not in index.needs:
                index.needs[soname] = path
                searched = {"rpath": _absolute(elf.rpath, elf.machine), "runpath": _absolute(elf.runpath, elf.machine)}
                if any(searched.values()):
                    index.searched[soname] = searched
    return found


def _absolute(entries: Iterable[str], machine: str) -> list[str]:
    """Those entries of a search path that mean the same directory wherever the file that has them is."""
    return [expand_search_path(entry, "/", machine) for entry in entries if entry.startswith("/") and "ORIGIN" not in entry]


def follow(layer: Layer, path: str) -> str:
    """`path` with symbolic links inside the layer followed, in every component."""
    for _ in range(40):
        parts = path.strip("/").split("/")
        for count in range(1, len(parts) + 1):
            prefix = "/" + "/".join(parts[:count])
            target = layer.symlink_target(prefix)
            if target is not None:
                rest = parts[count:]
                path = posixpath.normpath(posixpath.join(posixpath.dirname(prefix), target, *rest))
                break
        else:
            return path
    return path
