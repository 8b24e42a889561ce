"""A command for gdb, which runs this file with its own Python: the symbols of programs are added where the guest loads them.

Where a program that runs at any address is loaded differs from boot to boot and from kernel to kernel; and symbols that are there before
a program starts would have their breakpoints hit in another one, such as PID 1, at the same addresses. So a breakpoint of ours stops at
the kernel's function that starts programs, and reads there what the program is told of itself (getauxval(3)).
"""

from __future__ import annotations

import shlex
import struct

import gdb  # pants: no-infer-dep

# elf.h
_AT_NULL, _AT_ENTRY, _AT_EXECFN = 0, 9, 31
_E_ENTRY = 24
_LONGEST_PATH = 4096
_WORD = struct.Struct("<Q")


def _words(address: int) -> int:
    (word,) = _WORD.unpack(bytes(gdb.selected_inferior().read_memory(address, _WORD.size)))
    return int(word)


def _text(address: int) -> str:
    letters = bytearray()
    while len(letters) < _LONGEST_PATH:
        letter = bytes(gdb.selected_inferior().read_memory(address + len(letters), 1))
        if letter == b"\0":
            break
        letters += letter
    return letters.decode("utf-8", "surrogateescape")


def _auxiliary_vector(stack: int) -> dict[int, int]:
    """From the stack of a new program: argc, argv, a null, the environment, a null, and pairs of words up to AT_NULL (System V ABI, AMD64
    supplement, "Initial Process Stack").
    """
    address = stack + (1 + _words(stack) + 1) * _WORD.size
    while _words(address):
        address += _WORD.size
    address += _WORD.size
    vector: dict[int, int] = {}
    while True:
        kind = _words(address)
        if kind == _AT_NULL:
            return vector
        vector[kind] = _words(address + _WORD.size)
        address += 2 * _WORD.size


def _entry(file: str) -> int:
    with open(file, "rb") as stream:
        return int(_WORD.unpack_from(stream.read(_E_ENTRY + _WORD.size), _E_ENTRY)[0])


class ProgramStart(gdb.Breakpoint):  # type: ignore[misc]
    """`stack` is an expression for the stack pointer of the program that starts; `files` are debug parts by the paths of programs."""

    def __init__(self, function: str, stack: str, files: dict[str, str]) -> None:
        # In hardware: it is set before the kernel, and its memory, are there.
        super().__init__(function, gdb.BP_HARDWARE_BREAKPOINT, internal=True)
        self.silent = True
        self._stack = stack
        self._files = files
        self._offsets: dict[str, int] = {}

    def stop(self) -> bool:
        try:
            vector = _auxiliary_vector(int(gdb.parse_and_eval(self._stack)))
            path = _text(vector[_AT_EXECFN])
            file = self._files.get(path)
            if file is not None:
                self._add(path, file, vector[_AT_ENTRY] - _entry(file))
        except (gdb.error, KeyError, OSError) as error:
            gdb.write(f"The symbols of a program that starts cannot be added: {error}\n", gdb.STDERR)
        return False

    def _add(self, path: str, file: str, offset: int) -> None:
        if self._offsets.get(path) == offset:
            return
        quoted = shlex.quote(file)
        if path in self._offsets:
            gdb.execute(f"remove-symbol-file {quoted}", to_string=True)
        gdb.execute(f"add-symbol-file {quoted} -o {offset:#x}", to_string=True)
        self._offsets[path] = offset
        gdb.write(f"{path} starts; it is loaded at {offset:#x}.\n" if offset else f"{path} starts.\n")


class Programs(gdb.Command):  # type: ignore[misc]
    """unikernel-programs FUNCTION STACK [PATH FILE]...: when the guest starts the program PATH, add the symbols in FILE."""

    def __init__(self) -> None:
        super().__init__("unikernel-programs", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)

    def invoke(self, argument: str, from_tty: bool) -> None:
        function, stack, *words = gdb.string_to_argv(argument)
        ProgramStart(function, stack, dict(zip(words[::2], words[1::2])))
        # Breakpoints in programs can be set from the start.
        gdb.execute("set breakpoint pending on")


Programs()
