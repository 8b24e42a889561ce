"""Reports of crashes: what happened, and the calls that led there, by what the image's PID 1 sends when a process crashes, by the files
in the image, and by their debugging information.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable

from unikernel.elf import parser_failures
from unikernel.errors import UnikernelError
from unikernel.image.debug_file import open_program
from unikernel.image.files import image_rootfs
from unikernel.rootfs.layer import readable
from unikernel.rootfs.merge import MergedRootfs
from unikernel.run.core_dump import CoreDump, MappedFile, read_dump, split_dumps
from unikernel.run.symbols import Location, build_id, dynamic_symbols, locations
from unikernel.run.unwind import MOST_CALLS, Call, Module, Unwinder

# Gives the debug parts of a program (an ELF file, which is then read and closed) by its path in the image with the leading slash; None
# when there are none.
FindDebug = Callable[[str], "BinaryIO | None"]

# sigaction(2), by signal and si_code, of Linux on x86.
_REASONS = {
    (4, 1): "illegal opcode",
    (4, 2): "illegal operand",
    (7, 1): "invalid alignment",
    (7, 2): "behind the end of the file",
    (8, 1): "integer division by zero",
    (8, 2): "integer overflow",
    (11, 1): "nothing is mapped there",
    (11, 2): "no such access is allowed there",
    (11, 0x80): "not a valid address",
}


@dataclass(frozen=True)
class Frame:
    """A call. `module` is a file's path in the image, and `offset` the address in it that it was linked for, as addr2line takes it; without
    a module, the address in memory. What is not known is None. An inlined one has the module and the offset of the function that it is in.
    """

    module: str | None
    offset: int
    function: str | None = None
    source: str | None = None
    line: int | None = None
    is_inlined: bool = False

    def to_text(self) -> str:
        place = f"{self.offset:#x}" if self.module is None else f"{readable(self.module)}+{self.offset:#x}"
        if self.function is None:
            return place
        source = "" if self.source is None else f" at {readable(self.source)}:{self.line}"
        return f"{readable(self.function)}{source} ({'inlined' if self.is_inlined else place})"


@dataclass(frozen=True)
class CrashReport:
    """`address` is what was accessed, and `reason` what the processor said about it. `is_cut` tells that there are more calls than
    `frames`. `problem` tells why nothing more is known, if so: the other fields mean nothing then.
    """

    signal: int = 0
    address: int | None = None
    reason: str = ""
    thread: int = 0
    program: str | None = None
    frames: tuple[Frame, ...] = ()
    is_cut: bool = False
    problem: str = ""

    def to_text(self) -> str:
        """Lines without the last one's end."""
        if self.problem:
            return f"The crash dump cannot be read: {self.problem}."
        where = "" if self.address is None else f", address {self.address:#x}"
        reason = f": {self.reason}" if self.reason else ""
        name = f" ({_signal_name(self.signal)})" if _signal_name(self.signal) else ""
        program = "A process" if self.program is None else readable(self.program)
        lines = [f"{program} crashed in thread {self.thread}: signal {self.signal}{name}{where}{reason}"]
        lines += [f"  #{number:<2} {frame.to_text()}" for number, frame in enumerate(self.frames)]
        return "\n".join([*lines, "  ... and more calls"] if self.is_cut else lines)


def _signal_name(number: int) -> str:
    try:
        return signal.strsignal(number) or ""
    except (ValueError, OverflowError):
        return ""


def crash_text(stream: bytes, image: Path, debug_file: Path | None) -> str:
    """Where the image's programs were when they crashed: lines, with their ends. `debug_file` is the image's own."""

    def find_debug(program: str) -> BinaryIO | None:
        return None if debug_file is None else open_program(debug_file, program)

    lines = [f"unikernel: {report.to_text()}\n" for report in crash_reports(stream, image, find_debug)]
    if lines and debug_file is None:
        lines.append(f"unikernel: functions and lines are in the debug file, {image.name}.debug (see docs/debugging.md)\n")
    return "".join(lines)


def crash_reports(stream: bytes, image: Path, find_debug: FindDebug) -> list[CrashReport]:
    """Of all dumps that a machine has written, one after another."""
    return [crash_report(dump, image, find_debug) for dump in split_dumps(stream)]


def crash_report(dump: bytes, image: Path, find_debug: FindDebug) -> CrashReport:
    """Of one dump, which the guest has written and may be anything. `image` is what was booted.

    Raises UnikernelError for what is no image, and what `find_debug` raises.
    """
    try:
        core = read_dump(dump)
    except ValueError as error:
        return CrashReport(problem=str(error))
    with image_rootfs(image) as rootfs, ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unikernel-crash-")))
        modules = _Modules(core, rootfs, scratch, stack)
        calls = list(Unwinder(core, modules.open).calls())
        frames = tuple(_frames(calls, modules.symbols(calls, find_debug)))
    return CrashReport(
        signal=core.signal,
        address=core.address,
        reason=_REASONS.get((core.signal, core.code), ""),
        thread=core.thread,
        program=core.program,
        frames=frames,
        is_cut=len(calls) == MOST_CALLS,
    )


def _frames(calls: Iterable[Call], symbols: dict[tuple[str, int], Sequence[Location]]) -> Iterable[Frame]:
    for call in calls:
        places = symbols.get((call.module, call.lookup), ()) if call.module is not None else ()
        if not places:
            yield Frame(call.module, call.address)
        for place in places:
            yield Frame(call.module, call.address, place.function, place.source, place.line, place.is_inlined)


class _Modules:
    """The files that were mapped, as they are in the image: what a program has made or changed itself is not there."""

    def __init__(self, core: CoreDump, rootfs: MergedRootfs, scratch: Path, stack: ExitStack) -> None:
        self._core = core
        self._rootfs = rootfs
        self._scratch = scratch
        self._stack = stack
        self._files: dict[str, Path] = {}
        self._modules: dict[str, Module | None] = {}

    def open(self, file: MappedFile) -> Module | None:
        if file.path not in self._modules:
            self._modules[file.path] = self._open(file.path)
        return self._modules[file.path]

    def _open(self, path: str) -> Module | None:
        try:
            copy = self._scratch / str(len(self._files))
            self._rootfs.write_file(self._rootfs.resolve(path), copy)
            self._files[path] = copy
            return Module(path, self._stack.enter_context(copy.open("rb")))
        except UnikernelError:
            return None
        except parser_failures():
            return None

    def symbols(self, calls: Sequence[Call], find_debug: FindDebug) -> dict[tuple[str, int], Sequence[Location]]:
        """By module and address."""
        found: dict[tuple[str, int], Sequence[Location]] = {}
        for path, module in self._modules.items():
            addresses = sorted({call.lookup for call in calls if call.module == path})
            if module is None or not addresses:
                continue
            places: dict[int, Sequence[Location]] = {}
            for address, place in dynamic_symbols(module.elf, addresses).items():
                places[address] = [place]
            debug = self._debug_parts(module, find_debug)
            places.update(locations(self._files[path] if debug is None else debug, addresses))
            found.update({(path, address): place for address, place in places.items()})
        return found

    def _debug_parts(self, module: Module, find_debug: FindDebug) -> Path | None:
        """Those of this very file: with those of another build, names and lines would be wrong."""
        from elftools.elf.elffile import ELFFile

        stream = find_debug(module.path)
        if stream is None:
            return None
        copy = self._scratch / f"{self._files[module.path].name}.debug"
        with stream, copy.open("wb") as output:
            shutil.copyfileobj(stream, output, 1 << 20)
        try:
            with copy.open("rb") as parts:
                return copy if build_id(ELFFile(parts)) == build_id(module.elf) else None
        except parser_failures():
            return None
