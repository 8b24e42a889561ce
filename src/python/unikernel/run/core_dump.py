"""Crash dumps, as PID 1's handler of crashes sends them (linux/init/crash.c): a frame around an ELF core file with all the notes of the
whole one, and with the memory that explains the calls.

A guest writes them, so they are read with bounds: anything at all gives a `CoreDump` or a ValueError.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

DUMP_MAGIC = b"UKCRASH1"
# Then the length of the core file. Bytes.
_FRAME_SIZE = len(DUMP_MAGIC) + 8

_ET_CORE, _EM_X86_64 = 4, 62
_PT_LOAD, _PT_NOTE = 1, 4
_NT_PRSTATUS, _NT_AUXV, _NT_FILE, _NT_SIGINFO = 1, 6, 0x46494C45, 0x53494749
_AT_PHDR = 3
# struct elf_prstatus (linux/elfcore.h): where the thread's id and its registers are.
_THREAD_OFFSET, _REGISTERS_OFFSET = 32, 112
# struct user_regs_struct (asm/user_64.h), by the numbers of DWARF registers (System V ABI, AMD64, figure 3.36; 16: the return address).
_REGISTERS = {15: 0, 14: 1, 13: 2, 12: 3, 6: 4, 3: 5, 11: 6, 10: 7, 9: 8, 8: 9, 0: 10, 2: 11, 1: 12, 4: 13, 5: 14, 16: 16, 7: 19}
_REGISTER_COUNT = 27
STACK_POINTER, FRAME_POINTER, RETURN_ADDRESS = 7, 6, 16
# asm-generic/siginfo.h: a fault of which the processor does not say the address.
_SI_KERNEL = 0x80
# SIGILL, SIGBUS, SIGFPE, SIGSEGV of Linux on x86, whatever this machine is.
_FAULTS = (4, 7, 8, 11)


@dataclass(frozen=True)
class MappedFile:
    """`offset` is that of `start` in the file, in bytes."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True)
class CoreDump:
    """`code` is siginfo_t's si_code; `address` is what was accessed, None where that is not known. `registers` are those of the thread that
    crashed, by their DWARF numbers. `program` is the path of the program's own file, if it is known.
    """

    signal: int
    code: int
    address: int | None
    thread: int
    registers: dict[int, int]
    files: tuple[MappedFile, ...]
    program: str | None
    _starts: list[int] = field(repr=False)
    _memory: list[bytes] = field(repr=False)

    def read(self, address: int, size: int) -> bytes | None:
        """None unless the dump has all of it."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        offset = address - self._starts[index]
        content = self._memory[index][offset : offset + size]
        return content if len(content) == size else None

    def read_word(self, address: int) -> int | None:
        content = self.read(address, 8)
        return None if content is None else int.from_bytes(content, "little")

    def file_at(self, address: int) -> MappedFile | None:
        return next((file for file in self.files if file.start <= address < file.end), None)


def split_dumps(stream: bytes) -> list[bytes]:
    """The dumps that arrived one after another, each with its frame. What is no whole dump is the last of them."""
    dumps: list[bytes] = []
    while stream:
        length = _FRAME_SIZE + int.from_bytes(stream[len(DUMP_MAGIC) : _FRAME_SIZE], "little")
        if not stream.startswith(DUMP_MAGIC) or length > len(stream):
            return [*dumps, stream]
        dumps.append(stream[:length])
        stream = stream[length:]
    return dumps


def read_dump(dump: bytes) -> CoreDump:
    """Raises ValueError with a reason for what is no dump, or not a whole one."""
    if not dump.startswith(DUMP_MAGIC[: len(dump)]) or not dump:
        raise ValueError("it is no crash dump")
    length = int.from_bytes(dump[len(DUMP_MAGIC) : _FRAME_SIZE], "little")
    if len(dump) < _FRAME_SIZE or len(dump) - _FRAME_SIZE < length:
        raise ValueError(f"it ends after {len(dump)} bytes, before it is complete")
    return _read_core(dump[_FRAME_SIZE : _FRAME_SIZE + length])


def _read_core(core: bytes) -> CoreDump:
    if len(core) < 64 or core[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", core, 16) != (_ET_CORE, _EM_X86_64):
        raise ValueError("it holds no core file of an x86_64 process")
    (headers_at,) = struct.unpack_from("<Q", core, 32)
    (header_count,) = struct.unpack_from("<H", core, 56)
    notes: dict[int, bytes] = {}
    memory = {}
    for index in range(header_count):
        at = headers_at + 56 * index
        if at + 56 > len(core):
            break
        kind, _, offset, address, _, size, _, _ = struct.unpack_from("<IIQQQQQQ", core, at)
        if kind == _PT_LOAD:
            memory[address] = core[offset : offset + size]
        elif kind == _PT_NOTE:
            for note, content in _notes(core[offset : offset + size]):
                # What is about the thread that crashed comes first.
                notes.setdefault(note, content)
    status, information = notes.get(_NT_PRSTATUS, b""), notes.get(_NT_SIGINFO, b"")
    if len(status) < _REGISTERS_OFFSET + 8 * _REGISTER_COUNT or len(information) < 24:
        raise ValueError("it does not say what the registers and the signal were")
    values = struct.unpack_from(f"<{_REGISTER_COUNT}Q", status, _REGISTERS_OFFSET)
    (thread,) = struct.unpack_from("<I", status, _THREAD_OFFSET)
    signal, _, code, address = struct.unpack_from("<iii4xQ", information, 0)
    files = tuple(_mapped_files(notes.get(_NT_FILE, b"")))
    starts = sorted(memory)
    dump = CoreDump(
        signal=signal,
        code=code,
        address=address if signal in _FAULTS and code > 0 and code != _SI_KERNEL else None,
        thread=thread,
        registers={number: values[index] for number, index in _REGISTERS.items()},
        files=files,
        program=None,
        _starts=starts,
        _memory=[memory[start] for start in starts],
    )
    return _with_program(dump, notes.get(_NT_AUXV, b""))


def _with_program(dump: CoreDump, auxiliary: bytes) -> CoreDump:
    """The auxiliary vector says where the program's headers are: in its file."""
    whole = auxiliary[: len(auxiliary) // 16 * 16]
    headers = next((value for kind, value in struct.iter_unpack("<QQ", whole) if kind == _AT_PHDR), None)
    file = None if headers is None else dump.file_at(headers)
    return dump if file is None else replace(dump, program=file.path)


def _notes(segment: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 12 <= len(segment):
        name_size, size, kind = struct.unpack_from("<III", segment, at)
        content_at = at + 12 + (name_size + 3) // 4 * 4
        at = content_at + (size + 3) // 4 * 4
        if content_at + size > len(segment):
            return
        yield kind, segment[content_at : content_at + size]


def _mapped_files(note: bytes) -> Iterator[MappedFile]:
    if len(note) < 16:
        return
    count, unit = struct.unpack_from("<QQ", note, 0)
    count = min(count, (len(note) - 16) // 24)
    names = note[16 + 24 * count :].split(b"\0")
    for index, name in zip(range(count), names):
        start, end, offset = struct.unpack_from("<QQQ", note, 16 + 24 * index)
        yield MappedFile(start, end, offset * unit, name.decode("utf-8", "surrogateescape"))
