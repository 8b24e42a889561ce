from __future__ import annotations

import io
import signal
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unikernel.elf import parser_failures, strip_elf
from unikernel.errors import UnikernelError
from unikernel.image.link import link_image
from unikernel.image.spec import ImageSpec
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.run.core_dump import DUMP_MAGIC, read_dump, split_dumps
from unikernel.run.crash import CrashReport, Frame, crash_report, crash_reports
from unikernel.run.symbols import Location, parse_addr2line
from unikernel.run.unwind import Call, Module, Unwinder
from unikernel.testing.images import small_kit
from unikernel.testing.programs import compile_c, tiny_program

# Functions whose frames do not depend on a compiler: with call frame information, with a frame pointer, with neither. The expressions of
# the last one: its frame's address is in the word 32 bytes above rsp (breg7, deref), its caller's counter 8 above (breg7).
_CALLS = """
#include <stdint.h>
__asm__(
    ".pushsection .text\\n"
    ".globl leaf, keeper, pointed, plain, start, trampoline\\n"
    ".type leaf, @function; .type keeper, @function; .type pointed, @function; .type plain, @function; .type start, @function\\n"
    "leaf: .cfi_startproc; nop; hlt; .cfi_endproc; .size leaf, . - leaf\\n"
    "keeper: .cfi_startproc; push %rbx; .cfi_def_cfa_offset 16; .cfi_offset %rbx, -16; sub $16, %rsp; .cfi_def_cfa_offset 32\\n"
    "  .skip 5, 0x90; .globl in_keeper; in_keeper: nop; hlt; .cfi_endproc; .size keeper, . - keeper\\n"
    "pointed: push %rbp; mov %rsp, %rbp; .skip 5, 0x90; .globl in_pointed; in_pointed: nop; hlt; .size pointed, . - pointed\\n"
    "start: .cfi_startproc; .cfi_undefined %rip; .skip 5, 0x90; .globl in_start; in_start: nop; hlt; .cfi_endproc\\n"
    "  .size start, . - start\\n"
    "plain: nop; hlt; .size plain, . - plain\\n"
    "trampoline: .cfi_startproc simple; .cfi_signal_frame\\n"
    "  .cfi_escape 0x0f, 3, 0x77, 32, 0x06; .cfi_escape 0x10, 16, 2, 0x77, 8; nop; hlt; .cfi_endproc\\n"
    ".popsection\\n"
);
"""
_BASE, _STACK = 0x7F0000000000, 0x7FFE00001000
_PAGES = 16
_PATH = "/app/calls"
_CORE_REGISTERS = {"rbp": 4, "rbx": 5, "rip": 16, "rsp": 19}


def _note(kind: int, content: bytes) -> bytes:
    return struct.pack("<III8s", 5, len(content), kind, b"CORE") + content + bytes(-len(content) % 4)


def _core(registers: Mapping[str, int], stack: Sequence[int], *, number: int = 11, code: int = 1, address: int = 0x10) -> bytes:
    values = [0] * 27
    for name, value in registers.items():
        values[_CORE_REGISTERS[name]] = value
    status = bytes(32) + struct.pack("<I", 12) + bytes(76) + struct.pack("<27Q", *values) + bytes(8)
    path = _PATH.encode() + b"\0"
    notes = _note(1, status) + _note(0x53494749, struct.pack("<iii4xQ104x", number, 0, code, address))
    notes += _note(6, struct.pack("<4Q", 3, _BASE + 64, 0, 0))
    notes += _note(0x46494C45, struct.pack("<5Q", 1, 4096, _BASE, _BASE + _PAGES * 4096, 0) + path)
    memory = struct.pack(f"<{len(stack)}Q", *stack)
    start = 64 + 2 * 56
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 4, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    header += struct.pack("<IIQQQQQQ", 4, 0, start, 0, 0, len(notes), 0, 4)
    header += struct.pack("<IIQQQQQQ", 1, 6, start + len(notes), _STACK, 0, len(memory), len(memory), 1)
    return header + notes + memory


def _dump(core: bytes) -> bytes:
    return DUMP_MAGIC + len(core).to_bytes(8, "little") + core


class _Sample:
    """An image with the program, stripped, and the program as it was."""

    def __init__(self, root: Path) -> None:
        self.program = compile_c(root / "calls", _CALLS, "-shared", "-nostdlib", "-g", "-Wl,--build-id")
        stripped = root / "stripped"
        strip_elf("strip", self.program, stripped)
        layer = Layer("application")
        layer.add_file(_PATH, stripped, 0o755)
        start = {"program": _PATH, "arguments": [_PATH], "environment": {}}
        layer.write(root / "application.cpio", LayerIndex("application", [], facts={"start": start}))
        (root / "scratch").mkdir()
        (root / "init").write_bytes(b"PID 1")
        self.image = root / "image.elf"
        link_image(
            ImageSpec(name="image"),
            kit=small_kit(root / "scratch"),
            init=root / "init",
            layers=[root / "application.cpio"],
            output=self.image,
            scratch=root / "scratch",
            assembler="as",
            linker="ld",
        )
        names = subprocess.run(["nm", str(self.program)], stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
        self.symbols = {line.split()[2]: int(line.split()[0], 16) for line in names.splitlines() if len(line.split()) == 3}

    def address(self, symbol: str) -> int:
        """Where it was in memory: all of the file is mapped from its beginning, as linkers lay it out for equal addresses and offsets."""
        return _BASE + self.symbols[symbol]

    def find(self, path: str) -> io.BufferedReader | None:
        return self.program.open("rb") if path == _PATH else None

    def report(self, registers: Mapping[str, int], stack: Sequence[int], **fields: int) -> CrashReport:
        return crash_report(_dump(_core(registers, stack, **fields)), self.image, self.find)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> _Sample:
    return _Sample(tmp_path_factory.mktemp("sample"))


def test_calls_are_followed_by_call_frame_information_and_by_frame_pointers(sample: _Sample) -> None:
    stack = [
        *(sample.address("in_keeper"), 0, 0, 0x1111),
        *(sample.address("in_pointed"), 0, sample.address("in_start"), 0, 0),
    ]
    registers = {"rip": sample.address("leaf"), "rsp": _STACK, "rbp": _STACK + 5 * 8}
    report = sample.report(registers, stack)
    assert [frame.function for frame in report.frames] == ["leaf", "keeper", "pointed", "start"]
    assert [frame.offset for frame in report.frames] == [
        sample.symbols[name] for name in ("leaf", "in_keeper", "in_pointed", "in_start")
    ]
    assert {frame.module for frame in report.frames} == {_PATH}
    assert (report.signal, report.address, report.thread, report.program, report.is_cut) == (11, 0x10, 12, _PATH, False)
    lines = report.to_text().splitlines()
    assert lines[0] == f"{_PATH} crashed in thread 12: signal 11 (Segmentation fault), address 0x10: nothing is mapped there"
    assert lines[1] == f"  #0  leaf ({_PATH}+{sample.symbols['leaf']:#x})"


def test_a_call_to_nowhere_and_a_function_without_a_frame_lead_to_their_callers(sample: _Sample) -> None:
    for counter, expected in ((0, [None, "start"]), (sample.address("plain"), ["plain", "start"])):
        report = sample.report({"rip": counter, "rsp": _STACK}, [sample.address("in_start"), 0])
        assert [frame.function for frame in report.frames] == expected
    assert sample.report({"rip": 0, "rsp": _STACK}, [sample.address("in_start")]).frames[0] == Frame(None, 0)


def test_expressions_and_what_a_signal_has_interrupted(sample: _Sample) -> None:
    # A handler's stack lies above: the interrupted function is exactly where its counter says.
    stack = [0, sample.address("start"), 0, 0, _STACK + 64]
    report = sample.report({"rip": sample.address("trampoline"), "rsp": _STACK}, stack)
    assert [frame.function for frame in report.frames] == ["trampoline", "start"]
    assert report.frames[1].offset == sample.symbols["start"]


def test_an_endless_recursion_is_cut(sample: _Sample) -> None:
    stack = [sample.address("in_keeper"), 0, 0, 0] * 500
    report = sample.report({"rip": sample.address("leaf"), "rsp": _STACK}, stack)
    assert report.is_cut and len(report.frames) == 64
    assert report.to_text().endswith("  ... and more calls")


def test_without_symbols_there_are_exported_names_and_without_those_addresses(sample: _Sample, tmp_path: Path) -> None:
    core = _dump(_core({"rip": sample.address("leaf"), "rsp": _STACK}, []))
    assert [frame.function for frame in crash_report(core, sample.image, lambda path: None).frames] == ["leaf"]
    # Debug parts of another build say nothing about this one.
    other = compile_c(tmp_path / "other", _CALLS.replace("leaf", "other"), "-shared", "-nostdlib", "-g", "-Wl,--build-id")
    assert [frame.function for frame in crash_report(core, sample.image, lambda path: other.open("rb")).frames] == ["leaf"]
    elsewhere = _dump(_core({"rip": 0x1234, "rsp": _STACK}, [0x5678]))
    assert crash_report(elsewhere, sample.image, sample.find).frames == (Frame(None, 0x1234),)


@pytest.mark.parametrize(
    ("number", "code", "address", "reason"),
    [
        (11, 2, 0x10, "no such access is allowed there"),
        (11, 0x80, None, "not a valid address"),
        (11, 0, None, ""),
        (8, 1, 0x10, "integer division by zero"),
        (6, -6, None, ""),
    ],
)
def test_what_the_processor_said(sample: _Sample, number: int, code: int, address: int | None, reason: str) -> None:
    report = sample.report({"rip": 0, "rsp": 0}, [], number=number, code=code)
    assert (report.signal, report.address, report.reason) == (number, address, reason)
    assert f"signal {number} ({signal.strsignal(number)})" in report.to_text()


def test_dumps_follow_each_other(sample: _Sample) -> None:
    one, two = _dump(_core({"rip": 0, "rsp": 0}, [])), _dump(_core({"rip": 1, "rsp": 0}, [], number=6, code=-6))
    assert split_dumps(one + two) == [one, two]
    assert split_dumps(b"") == []
    reports = crash_reports(one + two + two[:100], sample.image, sample.find)
    assert [(report.signal, bool(report.problem)) for report in reports] == [(11, False), (6, False), (0, True)]
    assert reports[2].to_text() == "The crash dump cannot be read: it ends after 100 bytes, before it is complete."


@pytest.mark.parametrize(
    ("dump", "problem"),
    [
        (b"", "it is no crash dump"),
        (b"login: ", "it is no crash dump"),
        (DUMP_MAGIC, "it ends after 8 bytes"),
        (_dump(b""), "it holds no core file"),
        (_dump(b"\x7fELF" + bytes(100)), "it holds no core file"),
        (_dump(_core({}, [])[:64]), "does not say what the registers"),
    ],
)
def test_what_is_no_dump_is_said_in_a_line(dump: bytes, problem: str, sample: _Sample) -> None:
    text = crash_report(dump, sample.image, sample.find).to_text()
    assert text.startswith("The crash dump cannot be read: ") and problem in text and "\n" not in text


def test_names_in_a_dump_do_nothing_to_a_terminal(sample: _Sample) -> None:
    core = _core({"rip": 0, "rsp": 0}, []).replace(b"/app/calls\0", b"/a\x1b[2J\n\xff\0\0")
    text = crash_report(_dump(core), sample.image, sample.find).to_text()
    assert text.isprintable() or text.replace("\n", "").isprintable()
    assert "\\x1b[2J" in text


def test_a_file_that_is_no_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError):
        crash_report(_dump(_core({"rip": 0, "rsp": 0}, [])), tiny_program(tmp_path / "program"), lambda path: None)


_NUMBERS = st.sampled_from([0, 1, 7, 16, 0x7F, 0xFFFF, 0xFFFFFFFF, 2**63, 2**64 - 1, _BASE, _STACK, _STACK + 8])


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_anything_gives_a_report(sample: _Sample, data: st.DataObject) -> None:
    stack = [sample.address("in_keeper"), 0, 0, 0, sample.address("in_start"), 0]
    core = bytearray(_core({"rip": sample.address("leaf"), "rsp": _STACK}, stack))
    for _ in range(data.draw(st.integers(0, 6))):
        size: int = data.draw(st.sampled_from([1, 2, 4, 8]))
        at: int = data.draw(st.integers(0, len(core) - size))
        core[at : at + size] = (data.draw(_NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
    report = crash_report(_dump(bytes(core[: data.draw(st.integers(0, len(core)))])), sample.image, lambda path: None)
    assert report.to_text() and len(report.frames) <= 64


@settings(deadline=None, max_examples=200)
@given(dump=st.binary(max_size=400))
@example(dump=DUMP_MAGIC + b"\xff" * 8)
def test_any_bytes_are_read_or_refused(dump: bytes) -> None:
    assert b"".join(split_dumps(dump)) == dump
    for candidate in (dump, _dump(dump), _dump(b"\x7fELF\x02\x01" + dump)):
        with pytest.raises(ValueError):
            read_dump(candidate)


def _calls(sample: _Sample, content: bytes) -> list[Call]:
    """With another file in the place of the sample's program."""
    stack = [sample.address("in_keeper"), 0, 0, 0, sample.address("in_start"), 0]
    dump = read_dump(_dump(_core({"rip": sample.address("leaf"), "rsp": _STACK}, stack)))
    module = Module(_PATH, io.BytesIO(content))
    return list(Unwinder(dump, lambda file: module).calls())


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_file_ends_the_calls(sample: _Sample, data: st.DataObject) -> None:
    """Call frame information with nonsense in it: as read by pyelftools, with bounds of our own."""
    content = bytearray(sample.program.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(64, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    try:
        assert 1 <= len(_calls(sample, bytes(content))) <= 64
    except parser_failures():
        # No ELF file any more.
        with pytest.raises(parser_failures()):
            Module(_PATH, io.BytesIO(bytes(content)))


def test_call_frame_information_without_sense_ends_the_calls(sample: _Sample) -> None:
    content = sample.program.read_bytes()
    # What x86-64's common information begins with: DW_CFA_def_cfa rsp+8, DW_CFA_offset rip-8. Then DW_CFA_restore, which it cannot have.
    common = b"\x0c\x07\x08\x90\x01"
    assert common in content and len(_calls(sample, content)) > 1
    assert len(_calls(sample, content.replace(common, b"\xc6\0\0\0\0"))) == 1


def test_what_addr2line_says() -> None:
    printed = (
        "0x0000000000001187\napp::Box::put(int)\n/src/a.cpp:5\napp::store(int)\n/src/a.cpp:6 (discriminator 3)\n"
        "0x0000000000000010\n??\n??:0\n0x0000000000000020\nmain\n??:?\n0x30\nf\n/s/x:y.c:?\n"
    )
    assert parse_addr2line(printed) == {
        0x1187: [Location("app::Box::put(int)", "/src/a.cpp", 5, is_inlined=True), Location("app::store(int)", "/src/a.cpp", 6)],
        0x20: [Location("main")],
        0x30: [Location("f")],
    }
    assert parse_addr2line("") == {} and parse_addr2line("0x10\nmain") == {0x10: [Location("main")]}


def test_lines_and_inlined_functions_come_from_debugging_information(tmp_path: Path) -> None:
    from unikernel.run.symbols import demangled, locations

    source = tmp_path / "box.cpp"
    source.write_text(
        "volatile int place;\nnamespace app {\ninline __attribute__((always_inline)) void put(int n) { place = n; }\n"
        "void store(int n) {\n  place = 1;\n  put(n);\n}\n}\n"
    )
    library = tmp_path / "box.so"
    subprocess.run(["g++", "-O2", "-g", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    names = subprocess.run(["nm", str(library)], stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    address = next(int(line.split()[0], 16) for line in names.splitlines() if line.endswith("_ZN3app5storeEi"))
    found = [place for at in range(address, address + 15) for place in locations(library, [at]).get(at, [])]
    assert Location("app::put(int)", str(source), 3, is_inlined=True) in found
    assert all(place.function in ("app::put(int)", "app::store(int)") for place in found)
    assert list(demangled(["_ZN3app5storeEi", "plain"])) == ["app::store(int)", "plain"]
