"""The calls that led to a place in a program, by its stack and the call frame information (.eh_frame) of its files.

Files and stack may be damaged: what makes no sense ends the list of calls.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Callable

from unikernel.elf import parser_failures
from unikernel.run.core_dump import FRAME_POINTER, RETURN_ADDRESS, STACK_POINTER, CoreDump, MappedFile

if TYPE_CHECKING:
    from elftools.dwarf.callframe import FDE

# A recursion that has used up its stack has thousands.
MOST_CALLS = 64
_ADDRESSES = 1 << 64
_PF_X = 1
# The registers that a function gives back as they were (System V ABI, AMD64): rbx, rbp, r12 to r15.
_PRESERVED = (3, 6, 12, 13, 14, 15)
# Encodings of pointers in .eh_frame (LSB, "DWARF Extensions"): the sizes of those of fixed size, and what they are relative to.
_POINTER_FORMATS = {0x00: "<Q", 0x02: "<H", 0x03: "<I", 0x04: "<Q", 0x0A: "<h", 0x0B: "<i", 0x0C: "<q"}
_PC_RELATIVE = 0x10
# A damaged expression that goes on and on.
_MOST_OPERATIONS = 256


@dataclass(frozen=True)
class Call:
    """A place in a program: `address` is the one that the module was linked for, or where it was in memory if that is no file. For all but
    the first, execution would go on there; `lookup` is in the instruction that it is about.
    """

    module: str | None
    address: int
    lookup: int


class Module:
    """An ELF file that was mapped. Raises what `parser_failures` names for what is none."""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        from elftools.elf.elffile import ELFFile

        self.path = path
        self.elf: ELFFile = ELFFile(stream)
        self._segments: list[Any] = [segment.header for segment in self.elf.iter_segments("PT_LOAD")]

    def link_address(self, offset: int) -> int | None:
        """The address that what is at `offset` of the file was linked for."""
        for header in self._segments:
            if 0 <= offset - header.p_offset < header.p_filesz:
                return offset - header.p_offset + header.p_vaddr
        return None

    def is_code(self, address: int) -> bool:
        return any(0 <= address - header.p_vaddr < header.p_filesz and header.p_flags & _PF_X for header in self._segments)

    @cached_property
    def _frames(self) -> _EhFrame | None:
        section = self.elf.get_section_by_name(".eh_frame")
        if section is None or section["sh_type"] == "SHT_NOBITS":
            return None
        return _EhFrame(section.data(), section["sh_addr"])

    def description(self, address: int) -> FDE | None:
        """The call frame information of the function at `address`."""
        return None if self._frames is None else self._frames.find(address)


class _EhFrame:
    """A section .eh_frame. pyelftools would parse all of it, some seconds for a large library; it is given the one entry that is needed."""

    def __init__(self, content: bytes, address: int) -> None:
        self._content = content
        self._address = address
        self._encodings: dict[int, int | None] = {}

    def find(self, address: int) -> FDE | None:
        index = bisect_right(self._functions, (address, _ADDRESSES, 0, 0, 0)) - 1
        if index < 0:
            return None
        first, length, common, start, end = self._functions[index]
        return self._parse(common, start, end) if address < first + length else None

    @cached_property
    def _functions(self) -> list[tuple[int, int, int, int, int]]:
        """Address and length of each function, where its common information is, and start and end of its description."""
        functions = []
        for start, end, common in self._entries():
            encoding = self._encoding(common)
            pointer = None if encoding is None else _POINTER_FORMATS.get(encoding & 0x0F)
            if encoding is None or pointer is None or encoding & 0x70 not in (0, _PC_RELATIVE):
                continue
            size = struct.calcsize(pointer)
            if start + 8 + 2 * size > end:
                continue
            (first,) = struct.unpack_from(pointer, self._content, start + 8)
            # A length, without a sign.
            (length,) = struct.unpack_from(pointer.upper(), self._content, start + 8 + size)
            if encoding & 0x70 == _PC_RELATIVE:
                first = (first + self._address + start + 8) % _ADDRESSES
            functions.append((first, length, common, start, end))
        return sorted(functions)

    def _entries(self) -> Iterator[tuple[int, int, int]]:
        """Start and end of each frame description, and where its common information is."""
        at = 0
        while at + 8 <= len(self._content):
            length, pointer = struct.unpack_from("<II", self._content, at)
            # 0 is the end, 0xffffffff would be one of more than 4 GB. Several may follow each other where a linker has put them together.
            if length == 0xFFFFFFFF:
                return
            if length and pointer:
                yield at, min(at + 4 + length, len(self._content)), at + 4 - pointer
            at += 4 + length

    def _common(self, at: int) -> bytes:
        (length,) = struct.unpack_from("<I", self._content, at)
        return self._content[at : at + 4 + length]

    def _encoding(self, common: int) -> int | None:
        """How a frame description with this common information writes where its function is."""
        if common not in self._encodings:
            try:
                entry = _parse_entries(self._common(common), self._address + common)[0]
                self._encodings[common] = entry.augmentation_dict.get("FDE_encoding", 0)
            except parser_failures():
                self._encodings[common] = None
        return self._encodings[common]

    def _parse(self, common: int, start: int, end: int) -> FDE | None:
        """Both entries are parsed as a section of their own, at the address where relative pointers come out right."""
        information = self._common(common)
        description = bytearray(self._content[start:end])
        struct.pack_into("<I", description, 4, len(information) + 4)
        entries = _parse_entries(information + bytes(description), self._address + start - len(information))
        return entries[1]


def _parse_entries(content: bytes, address: int) -> list[Any]:
    from elftools.dwarf.callframe import CallFrameInfo

    return CallFrameInfo(io.BytesIO(content), len(content), address, _structs(), for_eh_frame=True).get_entries()


def _structs() -> Any:
    from elftools.dwarf.structs import DWARFStructs

    return DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)


class Unwinder:
    """`open_module` gives the ELF file that was mapped from a path, or None where it cannot be had."""

    def __init__(self, dump: CoreDump, open_module: Callable[[MappedFile], Module | None]) -> None:
        self._dump = dump
        self._open_module = open_module

    def calls(self) -> Iterator[Call]:
        """The innermost first."""
        registers = dict(self._dump.registers)
        is_exact = True
        for number in range(MOST_CALLS):
            counter = registers[RETURN_ADDRESS]
            # A call may be the last instruction of its function: what it returns to may be another's.
            lookup = counter if is_exact else counter - 1
            module, shift = self._locate(lookup)
            yield Call(None if module is None else module.path, counter - shift, lookup - shift)
            try:
                before, is_exact = self._step(registers, module, lookup - shift, is_innermost=number == 0)
            except parser_failures():
                return
            if before is None or before[RETURN_ADDRESS] == 0:
                return
            # Stacks grow downwards: who called has its frame above. A signal handler may have a stack of its own.
            if before[STACK_POINTER] <= registers[STACK_POINTER] and not is_exact:
                return
            registers = before

    def _locate(self, address: int) -> tuple[Module | None, int]:
        """The module that is mapped there, and how far from where it was linked for."""
        file = self._dump.file_at(address)
        module = None if file is None else self._open_module(file)
        if file is None or module is None:
            return None, 0
        linked = module.link_address(address - file.start + file.offset)
        return (None, 0) if linked is None else (module, address - linked)

    def _is_code(self, address: int) -> bool:
        module, shift = self._locate(address)
        return module is not None and module.is_code(address - shift)

    def _step(
        self, registers: dict[int, int], module: Module | None, address: int, *, is_innermost: bool
    ) -> tuple[dict[int, int] | None, bool]:
        """The registers of the caller, and whether it was interrupted (by a signal) and has called nothing."""
        description = None if module is None else module.description(address)
        if description is not None:
            return self._step_by(description, registers, address), b"S" in description.cie.header["augmentation"]
        if is_innermost:
            # A call to nowhere, or a function in assembly: most of them leave the stack as it is.
            returns_to = self._dump.read_word(registers[STACK_POINTER])
            if returns_to is not None and self._is_code(returns_to):
                return {**registers, RETURN_ADDRESS: returns_to, STACK_POINTER: registers[STACK_POINTER] + 8}, False
        return self._step_by_frame_pointer(registers), False

    def _step_by_frame_pointer(self, registers: dict[int, int]) -> dict[int, int] | None:
        """As code leaves it that is compiled with frame pointers, such as Go's."""
        frame = registers[FRAME_POINTER]
        outer, returns_to = self._dump.read_word(frame), self._dump.read_word(frame + 8)
        if outer is None or returns_to is None or frame < registers[STACK_POINTER] or not self._is_code(returns_to):
            return None
        return {**registers, FRAME_POINTER: outer, RETURN_ADDRESS: returns_to, STACK_POINTER: frame + 16}

    def _step_by(self, description: FDE, registers: dict[int, int], address: int) -> dict[int, int] | None:
        rows = [row for row in description.get_decoded().table if row["pc"] <= address]
        if not rows:
            return None
        row = rows[-1]
        cfa = self._frame_address(row["cfa"], registers)
        if cfa is None:
            return None
        before = {number: registers[number] for number in _PRESERVED}
        before[STACK_POINTER] = cfa
        for number, rule in row.items():
            if isinstance(number, int):
                value = self._restored(number, rule, registers, cfa)
                if value is not None:
                    before[number] = value
                elif number == RETURN_ADDRESS:
                    return None
        return before if RETURN_ADDRESS in before else None

    def _frame_address(self, rule: Any, registers: dict[int, int]) -> int | None:
        if rule.expr is not None:
            return self._evaluate(rule.expr, registers, None)
        base = registers.get(rule.reg)
        return None if base is None else (base + rule.offset) % _ADDRESSES

    def _restored(self, number: int, rule: Any, registers: dict[int, int], cfa: int) -> int | None:
        """A register of the caller. None: it is lost."""
        if rule.type == "SAME_VALUE":
            return registers.get(number)
        if rule.type == "OFFSET":
            return self._dump.read_word((cfa + rule.arg) % _ADDRESSES)
        if rule.type == "VAL_OFFSET":
            return (cfa + rule.arg) % _ADDRESSES
        if rule.type == "REGISTER":
            return registers.get(rule.arg)
        if rule.type in ("EXPRESSION", "VAL_EXPRESSION"):
            value = self._evaluate(rule.arg, registers, cfa)
            return value if value is None or rule.type == "VAL_EXPRESSION" else self._dump.read_word(value)
        return None

    def _evaluate(self, expression: list[int], registers: dict[int, int], cfa: int | None) -> int | None:
        """What compilers and C libraries have in call frame information (the PLT's, and those of signal handlers): DWARF 5, 2.5.1."""
        from elftools.dwarf.dwarf_expr import DWARFExprParser

        stack = [] if cfa is None else [cfa]
        for operation in DWARFExprParser(_structs()).parse_expr(expression)[:_MOST_OPERATIONS]:
            if not self._operate(operation.op_name[len("DW_OP_") :], operation.args, stack, registers):
                return None
        return stack[-1] if stack else None

    def _operate(self, name: str, arguments: list[int], stack: list[int], registers: dict[int, int]) -> bool:
        """False: it is none of the known ones, or what it needs is not there."""
        value: int | None
        if name.startswith("breg"):
            base = registers.get(int(name[len("breg") :]))
            value = None if base is None else base + arguments[0]
        elif name.startswith("lit"):
            value = int(name[len("lit") :])
        elif name.startswith("const") and not name.startswith("constx"):
            value = arguments[0]
        elif name == "plus_uconst":
            value = stack.pop() + arguments[0]
        elif name == "deref":
            value = self._dump.read_word(stack.pop())
        elif name in _BINARY:
            top, below = stack.pop(), stack.pop()
            value = _BINARY[name](below, top)
        else:
            return False
        if value is not None:
            stack.append(value % _ADDRESSES)
        return value is not None


def _signed(value: int) -> int:
    return value - _ADDRESSES if value >= _ADDRESSES // 2 else value


_BINARY: dict[str, Callable[[int, int], int]] = {
    "plus": lambda below, top: below + top,
    "minus": lambda below, top: below - top,
    "mul": lambda below, top: below * top,
    "and": lambda below, top: below & top,
    "or": lambda below, top: below | top,
    "xor": lambda below, top: below ^ top,
    "shl": lambda below, top: below << min(top, 64),
    "shr": lambda below, top: below >> min(top, 64),
    "eq": lambda below, top: int(below == top),
    "ne": lambda below, top: int(below != top),
    "ge": lambda below, top: int(_signed(below) >= _signed(top)),
    "gt": lambda below, top: int(_signed(below) > _signed(top)),
    "le": lambda below, top: int(_signed(below) <= _signed(top)),
    "lt": lambda below, top: int(_signed(below) < _signed(top)),
}
