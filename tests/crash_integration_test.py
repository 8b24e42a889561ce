"""Boots programs that crash, and looks at what is said of it; and at output that has terminals of its own."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from machine import PATIENCE_SECONDS, boot
from unikernel.run.crash import CrashReport, crash_reports

IMAGES = "tests.images"
# crash.c: lines of each stream, and their length without the line feed.
_LINES, _WIDTH = 100_000, 51
_STREAMS = ("stdout", "stderr", "crash")
_MACHINES = {
    "microvm": ("microvm,acpi=off", "virtio-serial-device,max_ports=3"),
    "q35": ("q35", "virtio-serial-pci,max_ports=3,ioeventfd=off"),
}


@dataclass(frozen=True)
class Ended:
    """What a machine has written until it ended. `status` is the byte at the port for exit statuses."""

    console: str
    stdout: bytes
    stderr: bytes
    crash: bytes
    status: int | None

    @property
    def lines(self) -> list[str]:
        return self.console.splitlines()


def run(
    image: str,
    *arguments: str,
    tmp_path: Path,
    machine: str = "microvm",
    memory: int = 64,
    has_ports: bool = True,
    words: Sequence[str] = (),
) -> Ended:
    """Boots an image under QEMU with the terminals and the port of init/README.md, or with the words for them only."""
    name, serial = _MACHINES[machine]
    status = tmp_path / "status"
    status.unlink(missing_ok=True)
    command = ["qemu-system-x86_64", "-M", name, "-accel", "tcg", "-cpu", "max", "-m", str(memory), "-nodefaults"]
    command += ["-no-user-config", "-display", "none", "-no-reboot", "-chardev", "stdio,id=console,signal=off"]
    command += ["-serial", "chardev:console", "-kernel", f"{IMAGES}/{image}.elf"]
    command += ["-chardev", f"file,id=status,path={status}", "-device", "isa-debugcon,iobase=0x502,chardev=status"]
    append = ["UNIKERNEL_STDOUT=/dev/hvc0", "UNIKERNEL_STDERR=/dev/hvc1", "UNIKERNEL_CRASH=/dev/hvc2", *words]
    append += [f"UNIKERNEL_ARGS={','.join(arguments)}"] if arguments else []
    command += ["-append", " ".join(append)]
    pipes = {stream: os.pipe() for stream in _STREAMS}
    if has_ports:
        command += ["-device", serial]
        for number, (stream, (_, writer)) in enumerate(pipes.items()):
            command += ["-chardev", f"null,id={stream},logfile=/dev/fd/{writer},logappend=on"]
            command += ["-device", f"virtconsole,chardev={stream},nr={number}"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[writer for _, writer in pipes.values()],
    )
    for _, writer in pipes.values():
        os.close(writer)
    content: dict[str, bytes] = {}

    def read(stream: str, reader: int) -> None:
        with os.fdopen(reader, "rb") as file:
            content[stream] = file.read()

    threads = [threading.Thread(target=read, args=(stream, reader)) for stream, (reader, _) in pipes.items()]
    for thread in threads:
        thread.start()
    try:
        console, _ = process.communicate(timeout=2 * PATIENCE_SECONDS)
    finally:
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
    last = status.read_bytes()[-1:] if status.exists() else b""
    text = console.decode(errors="replace").replace("\r", "")
    return Ended(text, content["stdout"], content["stderr"], content["crash"], last[0] if last else None)


def report(image: str, ended: Ended) -> CrashReport:
    """With the program as it was before its symbols were taken for its debugging information."""

    def find(path: str) -> BinaryIO | None:
        return open(f"{IMAGES}/{image}-program", "rb") if path == f"/app/{image}-program" else None

    [found] = crash_reports(ended.crash, Path(f"{IMAGES}/{image}.elf"), find)
    assert not found.problem
    return found


def place_on_console(line: str) -> tuple[str, str]:
    """The file and the address of a line such as "..., at /app/hello+0x1136 (thread 12)"."""
    file, _, address = line.rpartition(", at ")[2].partition(" (")[0].rpartition("+")
    return file, address


@pytest.mark.parametrize("image", ["crash-static", "crash-static-pie", "crash-dynamic"])
def test_a_fault_says_where_it_was(image: str, tmp_path: Path) -> None:
    ended = run(image, "fault", tmp_path=tmp_path)
    first, last = ended.lines
    assert first.startswith(
        f"unikernel: {image}-program crashed: signal 11 (Segmentation fault), address 0x0, at /app/{image}-program+0x"
    )
    assert last == "unikernel: killed by signal 11 (Segmentation fault)"
    assert (ended.status, ended.stdout, ended.stderr) == (128 + 11, b"", b"")
    # The address on the console is one that addr2line takes.
    program = f"{IMAGES}/{image}-program"
    said = subprocess.run(
        ["addr2line", "-f", "-e", program, place_on_console(first)[1]], stdout=subprocess.PIPE, check=True, encoding="utf-8"
    ).stdout.splitlines()
    assert said[0] == "store" and "crash.c:" in said[1]
    found = report(image, ended)
    assert (found.signal, found.address, found.reason) == (11, 0, "nothing is mapped there")
    assert [frame.function for frame in found.frames][:3] == ["store", "fault", "main"]
    assert found.frames[0].source is not None and found.frames[0].source.endswith("tests/images/crash.c")
    assert hex(found.frames[0].offset) == place_on_console(first)[1]


def test_calls_go_through_libraries(tmp_path: Path) -> None:
    found = report("crash-dynamic", run("crash-dynamic", "library", tmp_path=tmp_path))
    modules = [frame.module for frame in found.frames]
    functions = [frame.function for frame in found.frames]
    assert functions[:3] == ["store", "fault", "compare"]
    libc = next(index for index, module in enumerate(modules) if module and "libc" in module)
    assert functions.index("compare") < libc < functions.index("main")


@pytest.mark.parametrize("machine", ["microvm", "q35"])
def test_a_thread(machine: str, tmp_path: Path) -> None:
    ended = run("crash-dynamic", "thread", tmp_path=tmp_path, machine=machine)
    found = report("crash-dynamic", ended)
    assert [frame.function for frame in found.frames][:3] == ["store", "fault", "run_thread"]
    assert f"(thread {found.thread})" in ended.lines[0]
    assert ended.status == 128 + 11


@pytest.mark.parametrize(
    ("way", "signal", "function"),
    [("abort", 6, "main"), ("divide", 8, "main"), ("nowhere", 11, "main"), ("recursion", 11, "recurse")],
)
def test_other_ends(way: str, signal: int, function: str, tmp_path: Path) -> None:
    ended = run("crash-static", way, tmp_path=tmp_path)
    assert ended.status == 128 + signal
    found = report("crash-static", ended)
    assert found.signal == signal
    assert function in [frame.function for frame in found.frames]
    assert found.is_cut == (way == "recursion")
    assert ended.lines[0].startswith(f"unikernel: crash-static-program crashed: signal {signal} ")
    assert ended.lines[1].startswith(f"unikernel: killed by signal {signal} ")


def test_a_signal_that_leaves_no_core_is_no_crash(tmp_path: Path) -> None:
    ended = run("crash-static", "terminate", tmp_path=tmp_path)
    assert (ended.lines, ended.crash) == (["unikernel: killed by signal 15 (Terminated)"], b"")


def test_a_child_that_crashes_is_reported_and_the_machine_goes_on(tmp_path: Path) -> None:
    ended = run("crash-static", "child", tmp_path=tmp_path)
    assert ended.stdout == b"the child ended by signal 11\n"
    assert "crashed: signal 11" in ended.lines[0] and ended.lines[1] == "unikernel: exited with status 0"
    assert report("crash-static", ended).frames[0].function == "store"


@pytest.mark.parametrize(("image", "way"), [("crash-user", "fault"), ("crash-static", "privileges")])
def test_users_other_than_root(image: str, way: str, tmp_path: Path) -> None:
    ended = run(image, way, tmp_path=tmp_path)
    assert "crashed: signal 11" in ended.lines[0]
    assert ended.crash.startswith(b"UKCRASH1")


def test_python_prints_its_own_traceback(tmp_path: Path) -> None:
    ended = run("crash-python", tmp_path=tmp_path, memory=256)
    assert ended.stdout == b"about to crash\n"
    assert ended.stderr.startswith(b"Fatal Python error: Segmentation fault\n")
    assert b'crash_python.py", line 9 in read_nowhere\n' in ended.stderr
    assert ended.lines[0].startswith("unikernel: python3")
    assert ended.status == 128 + 11


def test_a_run_says_where_it_was_with_functions_and_lines() -> None:
    status, console = boot(f"{IMAGES}/crash-static.elf", arguments=["fault"])
    assert status == 128 + 11
    assert "unikernel: /app/crash-static-program crashed in thread" in console
    assert re.search(
        r"^ +#0 +store at .*tests/images/crash\.c:\d+ \(/app/crash-static-program\+0x[0-9a-f]+\)$", console, re.MULTILINE
    ), console


def test_a_run_of_what_takes_more_memory_than_there_is() -> None:
    status, console = boot(f"{IMAGES}/crash-static.elf", arguments=["large", "4000"], options=["-m", "48M"])
    assert status == 128 + 9
    assert "unikernel: killed: out of memory (48 MiB declared)" in console


def test_a_crash_is_said_without_a_port_too(tmp_path: Path) -> None:
    ended = run("crash-static", "fault", tmp_path=tmp_path, has_ports=False)
    assert [line.partition(":")[2].split(":")[0] for line in ended.lines[:2]] == [
        " UNIKERNEL_STDOUT=/dev/hvc0",
        " UNIKERNEL_STDERR=/dev/hvc1",
    ]
    assert "crashed: signal 11" in ended.lines[2]
    assert ended.lines[3] == "unikernel: UNIKERNEL_CRASH=/dev/hvc2: No such file or directory"
    assert ended.status == 128 + 11


def test_a_large_process_gives_a_small_dump(tmp_path: Path) -> None:
    ended = run("crash-static", "large", "300", tmp_path=tmp_path, memory=400)
    assert report("crash-static", ended).frames[0].function == "store"
    assert len(ended.crash) < 1 << 20


@pytest.mark.parametrize(("machine", "memory"), [("microvm", 48), ("microvm", 97), ("q35", 128)])
def test_out_of_memory_says_how_much_there_was(machine: str, memory: int, tmp_path: Path) -> None:
    ended = run("crash-static", "large", "4000", tmp_path=tmp_path, machine=machine, memory=memory)
    assert ended.lines[-1] == f"unikernel: killed: out of memory ({memory} MiB declared)"
    assert (ended.status, ended.crash) == (128 + 9, b"")


@pytest.mark.parametrize("machine", ["microvm", "q35"])
def test_both_streams_arrive_whole_and_unmangled(machine: str, tmp_path: Path) -> None:
    """5 MB on each, up to the very end of the program."""
    ended = run("crash-static", "flood", tmp_path=tmp_path, machine=machine)
    assert ended.console == "unikernel: exited with status 0\n"
    width = _WIDTH - len("output ")
    assert ended.stdout == b"".join(b"output %0*d\n" % (width, line) for line in range(_LINES))
    assert ended.stderr == b"".join(b"error  %0*d\n" % (width, line) for line in range(_LINES))


@pytest.mark.parametrize(("image", "user"), [("crash-static", 0), ("crash-user", 1000)])
def test_streams_are_terminals_that_can_be_opened_anew(image: str, user: int, tmp_path: Path) -> None:
    ended = run(image, "reopen", tmp_path=tmp_path)
    assert ended.stdout == f"opened by user {user}\n".encode()
    assert ended.stderr == b"terminals: 1 1 1\n"


def test_a_kernel_panic_is_seen(tmp_path: Path) -> None:
    ended = run("crash-static", tmp_path=tmp_path, words=["rdinit=/nonexistent"])
    assert ended.lines[0].startswith("Kernel panic - not syncing: No working init found.")
    assert ended.status is None
