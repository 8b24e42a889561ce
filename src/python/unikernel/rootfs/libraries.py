"""Which shared libraries a set of ELF files needs, and where the dynamic loader would find them: ld.so(8).

Two places are searched: the tree that is being built (an archive may bring its libraries along, a wheel has its own beside its
extension modules), and a file system to take missing ones from, by default the build machine's.
"""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unikernel.elf import ElfFacts, ElfKind, is_elf, read_elf_file
from unikernel.errors import UnikernelError

# glibc opens this one by name when a thread is cancelled or ends by pthread_exit; without it the process aborts.
_OPENED_BY_GLIBC = ("libgcc_s.so.1",)
# What looks names up, opened by name as nsswitch.conf says. They are in the C library itself since glibc 2.34.
_NAME_SERVICES = ("libnss_dns.so.2", "libnss_files.so.2")
_NAME_SERVICES_BUILT_IN = (2, 34)
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n]* release version (\d+)\.(\d+)")


@dataclass(frozen=True)
class FoundLibrary:
    """A library on the machine to take it from. `path` is what the loader would open; `real_path` is where its bytes are."""

    soname: str
    path: str
    real_path: str
    facts: ElfFacts


@dataclass
class Closure:
    """`libraries` by soname; `missing` sonames with the file that needs each first."""

    libraries: dict[str, FoundLibrary] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def is_loader(soname: str) -> bool:
    """Whether a needed name is the dynamic loader itself, which PT_INTERP already brings."""
    return soname.startswith(("ld-linux", "ld-musl", "ld64.so"))


def musl_libc(interpreter: str | None) -> bool:
    return interpreter is not None and posixpath.basename(interpreter).startswith("ld-musl")


def provided_by_loader(soname: str, interpreter: str | None) -> bool:
    """musl's loader is its C library too: `libc.so` under any of its names."""
    return is_loader(soname) or (musl_libc(interpreter) and soname.startswith(("libc.so", "libc.musl")))


def default_directories(machine: str, root: Path = Path("/"), interpreter: str | None = None) -> list[str]:
    """Where the loader looks last: what /etc/ld.so.conf names (for glibc, by its cache), then what is compiled in."""
    if musl_libc(interpreter):
        configured = root / f"etc/ld-musl-{machine}.path"
        if configured.is_file():
            return configured.read_text().replace("\n", ":").strip(":").split(":")
        return ["/lib", "/usr/local/lib", "/usr/lib", f"/usr/lib/{machine}-linux-musl"]
    directories = [
        *_ld_so_conf(root, root / "etc/ld.so.conf"),
        f"/lib/{machine}-linux-gnu",
        f"/usr/lib/{machine}-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
    ]
    return list(dict.fromkeys(directories))


def _ld_so_conf(root: Path, file: Path) -> Iterator[str]:
    if not file.is_file():
        return
    for line in file.read_text(errors="replace").splitlines():
        words = line.split("#", 1)[0].split()
        if words and words[0] == "include":
            for pattern in words[1:]:
                absolute = pattern if pattern.startswith("/") else "/etc/" + pattern
                for included in sorted(glob.glob(str(root) + absolute)):
                    yield from _ld_so_conf(root, Path(included))
        elif words:
            yield words[0]


def expand_search_path(entry: str, origin: str, machine: str) -> str:
    """An RPATH or RUNPATH entry with the loader's tokens replaced. `origin` is the directory of the file that has it."""
    for token, value in (("ORIGIN", origin), ("LIB", f"lib/{machine}-linux-gnu"), ("PLATFORM", machine)):
        entry = entry.replace("${" + token + "}", value).replace("$" + token, value)
    return posixpath.normpath(entry)


def candidates(soname: str, origin: str, machine: str, directories: Iterable[str]) -> list[str]:
    """The paths that the loader tries for a needed name. One with a slash is a path itself, in which it replaces the same tokens."""
    if "/" in soname:
        return [expand_search_path(soname, origin, machine)]
    return [posixpath.join(directory, soname) for directory in directories]


def find_library(
    soname: str, needing: ElfFacts, origin: str, defaults: Iterable[str], root: Path, inherited: Sequence[str] = ()
) -> FoundLibrary | None:
    """The first library of that name, and of the needing file's kind of machine, in the loader's order.

    `inherited` are the directories in the RPATHs of what loads the needing file; one with a RUNPATH does not search them.
    """
    own = [expand_search_path(entry, origin, needing.machine) for entry in (*needing.rpath, *needing.runpath)]
    search = [*own, *(() if needing.runpath else inherited), *defaults]
    for candidate in candidates(soname, origin, needing.machine, search):
        path = root / candidate.lstrip("/")
        if not path.is_file() or not is_elf(path):
            continue
        facts = read_elf_file(path)
        if (facts.machine, facts.bits) == (needing.machine, needing.bits):
            return FoundLibrary(soname, candidate, os.path.realpath(path), facts)
    return None


def close_over(
    needed: Iterable[tuple[str, str, ElfFacts]],
    provided: Iterable[str],
    machine: str,
    interpreter: str | None,
    root: Path = Path("/"),
) -> Closure:
    """The libraries that `needed`, (soname, needed by, facts of who needs it), lead to, without those that are `provided`."""
    closure = Closure()
    there = set(provided)
    defaults = default_directories(machine, root, interpreter)
    queue: list[tuple[str, str, ElfFacts, tuple[str, ...]]] = [(*need, ()) for need in needed]
    while queue:
        soname, needed_by, facts, inherited = queue.pop(0)
        if soname in there or soname in closure.libraries or provided_by_loader(soname, interpreter):
            continue
        origin = posixpath.dirname(needed_by)
        found = find_library(soname, facts, origin, defaults, root, inherited)
        if found is None:
            closure.missing.setdefault(soname, needed_by)
            continue
        closure.libraries[soname] = found
        inherited = (*(expand_search_path(entry, origin, machine) for entry in facts.rpath), *inherited)
        queue += [(name, found.path, found.facts, inherited) for name in found.facts.needed]
        if soname == "libc.so.6":
            for name in opened_by_glibc(Path(found.real_path)):
                if find_library(name, found.facts, posixpath.dirname(found.path), defaults, root) is not None:
                    queue.append((name, found.path, found.facts, ()))
    return closure


def opened_by_glibc(library: Path) -> tuple[str, ...]:
    """The libraries that this C library opens by name, which no DT_NEEDED shows."""
    match = _GLIBC_VERSION.search(library.read_bytes())
    if match is None or (int(match[1]), int(match[2])) >= _NAME_SERVICES_BUILT_IN:
        return _OPENED_BY_GLIBC
    return (*_OPENED_BY_GLIBC, *_NAME_SERVICES)


def library_directory(closure: Closure, loader: str | None, machine: str, root: Path = Path("/")) -> str:
    """Where an image has the libraries of a closure: a directory that its loader looks in without a cache (ld.so.cache).

    musl's looks in /lib. Which ones glibc's has compiled in differs by distribution, and can be read in it: each ends with a slash
    and NUL. The one that has the C library comes first, as the directory that is in use.
    """
    if musl_libc(loader):
        return "/lib"
    defaults = default_directories(machine, root, loader)
    libc = closure.libraries.get("libc.so.6")
    if libc is None:
        # It is in another layer, but from the same machine, as is the loader.
        asking = ElfFacts(ElfKind.DYNAMIC, machine, 64, loader, None, (), (), ())
        libc = find_library("libc.so.6", asking, "/", defaults, root)
    if libc is None:
        return "/usr/lib"
    first = posixpath.dirname(libc.path)
    loader = loader or libc.facts.interpreter
    file = root / loader.lstrip("/") if loader else None
    if file is not None and file.is_file():
        compiled_in = file.read_bytes()
        for directory in (first, *defaults):
            if re.search(rb"(?<![!-~])" + re.escape(f"{directory}/\0".encode()), compiled_in):
                return directory
    return first


def check_machine(facts: ElfFacts, name: str, machine: str) -> None:
    """Raises UnikernelError when an ELF file is for another machine than the image."""
    if facts.machine != machine or facts.bits != 64:
        raise UnikernelError(
            f"{name} is compiled for {facts.machine} ({facts.bits} bits), but the image is for {machine}: "
            f"build it for {machine}, or take the {machine} release of it."
        )
