"""The command that attaches gdb to a machine which waits for it (QEMU's options -S and -gdb): with the kernel's symbols, and those of the
programs where they are loaded.
"""

from __future__ import annotations

import platform
import shlex
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from unikernel.elf import read_elf_file
from unikernel.errors import UnikernelError
from unikernel.image.debug_file import extract_programs
from unikernel.image.files import image_rootfs
from unikernel.image.manifest_pb2 import Manifest
from unikernel.library_os import library_os_of
from unikernel.run.machine import Machine

_SCRIPT = Path(__file__).with_name("gdb_program.py")
# ELF's type ET_EXEC, and where the type and the first instruction's address are (gABI, "ELF Header").
_ET_EXEC = 2
_HEADER = struct.Struct("<16sHHIQ")


@contextmanager
def debugging(image: Path, debug_file: Path | None) -> Iterator[Callable[[Machine], None]]:
    """What says, of a machine that waits for a debugger, how to attach one. The symbols of programs are in files as long as it runs."""
    with tempfile.TemporaryDirectory(prefix="unikernel-debug-") as directory:
        programs = extract_programs(debug_file, Path(directory)) if debug_file is not None else {}

        def say(machine: Machine) -> None:
            command = shlex.join(gdb_command(image, machine.manifest, debug_file, programs, machine.gdb_port()))
            if debug_file is None:
                print(
                    f"unikernel: there is no {image.name}.debug: gdb will know no symbols (see docs/debugging.md)", file=sys.stderr
                )
            print(
                f"unikernel: the machine waits for a debugger, to be attached by:\n\n    {command}\n", file=sys.stderr, flush=True
            )

        yield say


def gdb_command(
    image: Path,
    manifest: Manifest,
    debug_file: Path | None,
    programs: Mapping[str, Path],
    port: int,
    *,
    sources: Path | None = None,
) -> list[str]:
    """`programs` are as `extract_programs` returns them: debug parts by path in the image, without the leading slash. `port` is of this
    machine. Sources that were compiled by relative names are looked for below `sources`, by default the current directory: where a build
    from sources of this repository was started.

    Without a debug file it attaches with what the image has, which is hardly a symbol.
    """
    # Debian's gdb knows its own machine, and gdb-multiarch all. Words in gdb's commands are quoted as a shell's.
    argv = ["gdb" if manifest.architecture == platform.machine() else "gdb-multiarch"]
    argv += ["-ex", f"directory {shlex.quote(str(sources or Path.cwd()))}", "-ex", f"target remote 127.0.0.1:{port}"]
    start = library_os_of(manifest).debug.program_start
    if start is not None and programs:
        paths = _started_paths(image, manifest, programs)
        words = [start.function, start.stack, *(word for path, file in paths.items() for word in (path, str(file.absolute())))]
        argv += ["-x", str(_SCRIPT), "-ex", f"unikernel-programs {shlex.join(words)}"]
    else:
        for _, file in sorted(programs.items()):
            if _header(file)[0] == _ET_EXEC:
                argv += ["-ex", f"add-symbol-file {shlex.quote(str(file.absolute()))}"]
    return [*argv, str((debug_file or image).absolute())]


def _started_paths(image: Path, manifest: Manifest, programs: Mapping[str, Path]) -> dict[str, Path]:
    """What can be started, by the path that it is started by: the image's own program may be a link."""
    files = {f"/{name}": file for name, file in sorted(programs.items()) if _header(file)[1]}
    program = manifest.start.program
    if program not in files:
        try:
            with image_rootfs(image) as rootfs:
                target = rootfs.resolve(program)
        except UnikernelError:
            return files
        if target in files:
            files[program] = files[target]
    return files


def _header(file: Path) -> tuple[int, int]:
    """An ELF file's type, and the address of its first instruction: 0 in a library, which nobody starts."""
    read_elf_file(file)
    with file.open("rb") as stream:
        _, kind, _, _, entry = _HEADER.unpack(stream.read(_HEADER.size))
    return kind, entry
