"""What an application asks of its operating system, as far as its code shows: the functions that programs import, and the modules that
Python code does.

A need is certain where the application's own code asks for it. In what it brings along (third-party distributions, shared libraries) the
code is there, and may never run.
"""

from __future__ import annotations

import functools
import json
import posixpath
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unikernel.elf import ElfFacts, ElfKind, parser_failures

if TYPE_CHECKING:
    from unikernel.rootfs.python_runtime import PythonRuntime


class Capability(str, Enum):
    """Named as in a library OS's limits. A C library is what calls `main`, and has the standard's functions."""

    C_LIBRARY = "c_library"
    FORK = "fork"
    EXEC = "exec"
    THREADS = "threads"
    DYNAMIC_LOADING = "dynamic_loading"
    FILES = "files"
    NETWORK = "network"
    IPV6 = "ipv6"


@dataclass(frozen=True, order=True)
class Need:
    """`what` is asked for (a function, a module), `by` whom; `how` says it for people: "imported", "used", "linked into"."""

    capability: Capability
    what: str
    by: str
    how: str
    certain: bool

    def to_document(self) -> dict[str, Any]:
        return {**asdict(self), "capability": self.capability.value}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Need:
        fields: dict[str, Any] = {**document, "capability": Capability(document["capability"])}
        return cls(**fields)


# --- programs -----------------------------------------------------------------------------------------------------

# Functions of POSIX.1-2017 and of the C libraries, by what they ask for. Those that start another program need both.
_FUNCTIONS = {
    Capability.C_LIBRARY: ("__libc_start_main", "main"),
    Capability.FORK: ("daemon", "fork", "forkpty", "popen", "posix_spawn", "posix_spawnp", "system", "vfork", "wordexp"),
    Capability.EXEC: ("execl", "execle", "execlp", "execv", "execve", "execveat", "execvp", "execvpe", "fexecve"),
    Capability.THREADS: ("pthread_create", "thrd_create"),
    Capability.DYNAMIC_LOADING: ("dlmopen", "dlopen"),
    Capability.FILES: ("creat", "fopen", "fopen64", "open", "open64", "openat", "openat64"),
    Capability.NETWORK: ("socket",),
    Capability.IPV6: ("in6addr_any", "in6addr_loopback"),
}
# A Go program calls the kernel itself: these are its standard library's.
_GO_FUNCTIONS = {
    "runtime.newosproc": Capability.THREADS,
    "syscall.forkExec": Capability.FORK,
    "syscall.Exec": Capability.EXEC,
}
_CAPABILITIES = {**{function: capability for capability, names in _FUNCTIONS.items() for function in names}, **_GO_FUNCTIONS}
# C libraries have these in static programs for their own use.
_ALWAYS_LINKED = {"__libc_start_main", "creat", "dlmopen", "dlopen", "fopen", "fopen64", "open", "open64", "openat", "openat64"}


def program_needs(program: Path, facts: ElfFacts, name: str, *, certain: bool = True) -> list[Need]:
    """Of what a dynamic program imports, or what is linked into a static one. `program` has its symbols still."""
    from elftools.elf.elffile import ELFFile

    is_static = facts.kind in (ElfKind.STATIC, ElfKind.STATIC_PIE)
    try:
        with program.open("rb") as stream:
            symbols = _symbols(ELFFile(stream), is_static)
    except parser_failures():
        return []
    needs = []
    for symbol in sorted(symbols):
        if is_static and symbol in _ALWAYS_LINKED:
            continue
        # A Go program has all of a package that it imports anything of.
        is_sure = certain and symbol != "syscall.forkExec"
        needs.append(Need(_CAPABILITIES[symbol], symbol, name, "linked into" if is_static else "imported", is_sure))
    return needs


def _symbols(elf: Any, is_static: bool) -> set[str]:
    """Those that say something. The table is read here (gABI, "Symbol Table"): pyelftools takes seconds for that of a Go program."""
    section = elf.get_section_by_name(".symtab" if is_static else ".dynsym")
    if section is None:
        return set()
    strings = section.stringtable.data()
    # A name may be the end of another one.
    names = {match.start(1): match[1].decode() for name in _CAPABILITIES for match in re.finditer(_ending(name), strings)}
    order = "<" if elf.little_endian else ">"
    # st_name comes first; the section that defines the symbol, if one does (st_shndx), is elsewhere in each class.
    form, section_number = ("IBBHQQ", 3) if elf.elfclass == 64 else ("IIIBBH", 5)
    symbol = struct.Struct(order + form)
    table = section.data()
    return {
        names[entry[0]]
        for entry in symbol.iter_unpack(table[: len(table) // symbol.size * symbol.size])
        if entry[0] in names and is_static == (entry[section_number] != 0)
    }


@functools.cache
def _ending(name: str) -> re.Pattern[bytes]:
    return re.compile(b"(" + re.escape(name.encode()) + b")\0")


# --- Python -------------------------------------------------------------------------------------------------------

# Words of which one is in every source that asks for anything: most sources need no parser.
_WORDS = tuple(
    word.encode()
    for word in (
        *("AF_INET6", "ProcessPoolExecutor", "ThreadPoolExecutor", "_thread", "cffi", "ctypes", "exec", "fork", "multiprocessing"),
        *("popen", "pty", "spawn", "subprocess", "system", "threading"),
    )
)


def python_needs(runtime: PythonRuntime, sources: Iterable[tuple[Path, str]], *, certain: bool) -> list[Need]:
    """`sources` are files with the names of their modules. Parsed by the image's interpreter, whose syntax they have."""
    chosen = [(source, module) for source, module in sources if _has_word(source)]
    if not chosen:
        return []
    lines = runtime.run_worker("needs_worker.py", (word for source, module in chosen for word in (str(source), module)))
    found = (json.loads(line) for line in lines)
    return sorted(Need(Capability(capability), what, by, how, certain) for capability, what, by, how in found)


def tree_needs(root: Path, runtime: PythonRuntime, *, certain: bool) -> list[Need]:
    """Of all Python sources below a directory of sys.path."""
    sources = sorted(path for path in root.rglob("*.py") if path.is_file())
    return python_needs(runtime, ((path, module_name(str(path.relative_to(root)))) for path in sources), certain=certain)


def _has_word(source: Path) -> bool:
    content = source.read_bytes()
    return any(word in content for word in _WORDS)


def module_name(path: str) -> str:
    """Of a source by its path below a directory of sys.path."""
    name = posixpath.splitext(path)[0].replace("/", ".")
    return name[: -len(".__init__")] if name.endswith(".__init__") else name
