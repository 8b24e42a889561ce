"""Prints a fingerprint of a host C toolchain, or of host libraries, or finds programs. Runs in a sandbox on the host's Python (3.7+).

    toolchain_fingerprint.py toolchain c=/usr/bin/gcc c++=/usr/bin/g++
    toolchain_fingerprint.py libraries /usr/bin/gcc -L/opt/lib -lz -lm
    toolchain_fingerprint.py linked /usr/bin/riscv64-unknown-elf-gcc --specs=picolibc.specs ...
    toolchain_fingerprint.py files /usr/bin/mkfs
    toolchain_fingerprint.py programs make ld

A host compiler reads far more than its own executable: other programs (assembler, linker), start files, the C library,
headers. None of these is an input of a sandboxed process, so all of them are named by the fingerprint, which is one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence

_EMPTY_PROGRAM = "int main(void) { return 0; }\n"
_PROGRAMS = ("as", "ld", "collect2", "cc1", "cc1plus", "lto1", "lto-wrapper")
_LINK_MODES = ("-static", "-static-pie", "-pie")
_TRACED_FILE = re.compile(r"^\(?(?P<path>/[^()]+)")


def output_of(*argv: str) -> str | None:
    """What a command prints, None if it fails: what fails now and works later changes the fingerprint."""
    process = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return process.stdout if process.returncode == 0 else None


def content_hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def find_programs(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The first of each name on $PATH that says its version: where it is, and the SHA-256 of what it says."""
    found = {}
    for name in names:
        for directory in os.get_exec_path():
            path = os.path.join(directory, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                process = subprocess.run(
                    [path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
                if process.returncode == 0:
                    found[name] = {"path": path, "version": hashlib.sha256(process.stdout).hexdigest()}
                    break
    return found


def programs(driver: str) -> Iterator[tuple[str, str | None]]:
    """The versions of the driver and of the programs that it starts."""
    yield "machine", output_of(driver, "-dumpmachine")
    yield "version", output_of(driver, "--version")
    for name in _PROGRAMS:
        path = (output_of(driver, "-print-prog-name=" + name) or "").strip()
        if name in ("as", "ld"):
            yield name, output_of(path or name, "--version")
        elif os.path.isfile(path):
            # Installed together with the driver, whose version names them too: the size is enough, they are large.
            yield name, str(os.path.getsize(path))


def linked_files(driver: str, language: str) -> Iterator[tuple[str, str | None]]:
    """The contents of all files that links of an empty program read: start files, compiler run-time and C library."""
    source = "empty.c" if language == "c" else "empty.cc"
    with open(source, "w") as file:
        file.write(_EMPTY_PROGRAM)
    if output_of(driver, "-c", "-fPIE", source, "-o", "empty.o") is None:
        yield "compile", None
        return
    for mode in _LINK_MODES:
        yield from traced_files(driver, [mode], "empty.o")


def traced_files(driver: str, flags: Sequence[str], source: str) -> Iterator[tuple[str, str | None]]:
    """The contents of all files that a link with these flags reads."""
    name = " ".join(flags)
    trace = output_of(driver, *flags, source, "-o", "empty", "-Wl,--trace", "-Wl,--unresolved-symbols=ignore-all")
    if trace is None:
        yield name, None
        return
    matches = (_TRACED_FILE.match(line) for line in trace.splitlines())
    paths = {os.path.realpath(match.group("path").strip()) for match in matches if match}
    for path in sorted(path for path in paths if os.path.isfile(path)):
        yield name + " " + path, content_hash(path)


def linked(driver: str, flags: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """All that compiling and linking C with these flags reads."""
    with open("empty.c", "w") as file:
        file.write(_EMPTY_PROGRAM)
    yield from programs(driver)
    yield from traced_files(driver, flags, "empty.c")
    yield from headers(driver, "c", flags)


def headers(driver: str, language: str, flags: Sequence[str] = ()) -> Iterator[tuple[str, str | None]]:
    """Path, size and time of every header that the compiler finds by itself. Contents would cost seconds."""
    listing = output_of(driver, *flags, "-E", "-v", "-x", language, os.devnull) or ""
    directories = re.search(r"^#include <\.\.\.> search starts here:\n((?: .*\n)*)", listing, re.MULTILINE)
    for directory in directories.group(1).splitlines() if directories else ():
        root = os.path.realpath(directory.strip())
        for parent, children, files in os.walk(root):
            children.sort()
            for name in sorted(files):
                path = os.path.join(parent, name)
                try:
                    status = os.stat(path)
                except OSError:  # A dangling link.
                    continue
                yield path, f"{status.st_size} {int(status.st_mtime)}"


def libraries(driver: str, flags: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """The contents of the files that `-lNAME` may resolve to, in the directories of `-L` and in the compiler's own."""
    directories = [flag[2:] for flag in flags if flag.startswith("-L")]
    for flag in (flag for flag in flags if flag.startswith("-l")):
        name = flag[2:]
        for file in (name[1:],) if name.startswith(":") else (f"lib{name}.a", f"lib{name}.so"):
            # Given a name that it does not find, the driver prints that name.
            found = (output_of(driver, "-print-file-name=" + file) or "").strip()
            for path in [os.path.join(directory, file) for directory in directories] + [found]:
                yield path, content_hash(path) if os.path.isabs(path) and os.path.isfile(path) else None


def toolchain(drivers: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    for argument in drivers:
        language, _, driver = argument.partition("=")
        for part in (programs(driver), linked_files(driver, language), headers(driver, language)):
            for name, value in part:
                yield language + " " + name, value


def main(command: str, *arguments: str) -> None:
    items: Iterable[tuple[str, str | None]]
    if command == "programs":
        print(json.dumps(find_programs(arguments)))
        return
    if command == "libraries":
        items = libraries(arguments[0], arguments[1:])
    elif command == "linked":
        items = linked(arguments[0], arguments[1:])
    elif command == "files":
        items = ((path, content_hash(path)) for path in arguments)
    elif command == "toolchain":
        items = toolchain(arguments)
    else:
        raise SystemExit("unknown command: " + command)
    digest = hashlib.sha256()
    for name, value in items:
        digest.update(f"{name}\0{value}\0".encode("utf-8", "surrogateescape"))
    print(digest.hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
