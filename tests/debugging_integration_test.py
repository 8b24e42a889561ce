"""Debugs images with this machine's gdb, in batch mode: from the guest's first instruction to the code that answers a request."""

from __future__ import annotations

import re
import shlex
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from machine import PATIENCE_SECONDS, Machine, free_port, http_get
from unikernel.image.debug_file import build_id, check_debug_file, extract_programs
from unikernel.image.manifest import read_manifest
from unikernel.image.spec import Port
from unikernel.library_os import find_library_os
from unikernel.run.command import BootFiles, qemu_command, streams_of
from unikernel.run.gdb import gdb_command
from unikernel.run.options import RunOptions

IMAGES = Path("tests.images")


@contextmanager
def stopped_machine(image: Path, port: int, gdb_port: int, *, parameters: str) -> Iterator[None]:
    """Waits for a debugger before its first instruction."""
    library_os = find_library_os("linux")
    machine = library_os.machines["microvm"]
    argv = qemu_command(
        "qemu-system-x86_64",
        library_os,
        machine,
        BootFiles(str(image)),
        read_manifest(image),
        RunOptions(),
        [Port(8080, port)],
        "tcg",
    )
    place = argv.index("-append") + 1
    argv[place] = f"{parameters} {argv[place]}"
    for device in ("console", *streams_of(library_os, machine)):
        argv += ["-chardev", f"null,id={device}"]
    argv += ["-gdb", f"tcp:127.0.0.1:{gdb_port}", "-S"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def debug(command: Sequence[str], *commands: str) -> str:
    """What gdb prints when it is started by `command` and told the `commands`."""
    words = [word for text in commands for word in ("-ex", text)]
    # Its file, which comes last, is read before all commands.
    argv = [command[0], "-batch", "-nx", *command[1:], *words]
    result = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", timeout=PATIENCE_SECONDS
    )
    return result.stdout


@pytest.mark.parametrize(
    ("kind", "program", "parameters"),
    [
        ("static", "hello", find_library_os("linux").debug.parameters),
        ("static-pie", "static-pie-hello", find_library_os("linux").debug.parameters),
        # At another address each time.
        ("static-pie", "static-pie-hello", ""),
        ("dynamic", "dynamic-hello", find_library_os("linux").debug.parameters),
        ("dynamic", "dynamic-hello", ""),
    ],
)
def test_a_request_stops_in_the_service_with_its_callers_and_their_variables(
    tmp_path: Path, kind: str, program: str, parameters: str
) -> None:
    image, debug_file = IMAGES / f"debug-{kind}.elf", IMAGES / f"debug-{kind}.elf.debug"
    check_debug_file(image, debug_file)
    programs = extract_programs(debug_file, tmp_path)
    assert f"app/{program}" in programs
    port, gdb_port = free_port(), free_port()
    command = gdb_command(image, read_manifest(image), debug_file, programs, gdb_port)
    answers: list[tuple[int, str]] = []
    client = threading.Thread(target=lambda: answers.append(http_get(port, "/there")), daemon=True)
    with stopped_machine(image, port, gdb_port, parameters=parameters):
        client.start()
        printed = debug(
            command,
            *("break write_response", "continue", "backtrace", "list", "print request", "up", "print request[0]@10"),
            *("info symbol start_kernel", "delete", "detach"),
        )
        client.join(PATIENCE_SECONDS)
    # As it was asked for before the kernel, and the program, were there.
    assert "Breakpoint 1 (write_response) pending." in printed
    assert re.search(rf"^/app/{program} starts", printed, re.MULTILINE), printed
    assert ("it is loaded at" in printed) == (kind != "static")
    if kind == "dynamic" and parameters:
        assert "it is loaded at 0x555555554000." in printed
    # The function's line and source, its parameter; its callers, and a local variable of one.
    assert re.search(
        r"^Breakpoint 1, .*write_response \(.*\) at src/services/hello/response.c:\d+$", printed, re.MULTILINE
    ), printed
    assert "char path[256]" in printed
    assert re.search(r'^\$1 = .*"GET /there HTTP/1.1', printed, re.MULTILINE), printed
    assert re.search(r"^#1 .* serve \(connection=.*\) at src/services/hello/hello.c:\d+$", printed, re.MULTILINE), printed
    assert re.search(r"^#2 .* main \(\) at src/services/hello/hello.c:\d+$", printed, re.MULTILINE), printed
    # Of the array; what the program never wrote to is not there yet.
    assert '$2 = "GET /there"' in printed
    # The kernel's table of symbols.
    assert "start_kernel in section .init.text" in printed
    # Who was stopped goes on as if nothing had been.
    assert answers == [(200, "Hello from a unikernel at /there\n")]


def test_the_command_that_a_run_prints_attaches_with_all_symbols(tmp_path: Path) -> None:
    port = free_port()
    with Machine(IMAGES / "debug-static.elf", options=["--debug", "-p", f"{port}:8080"]) as machine:
        machine.wait_for("gdb ")
        (command,) = [line for line in machine.console.splitlines() if line.startswith("    gdb ")]
        answers: list[tuple[int, str]] = []
        client = threading.Thread(target=lambda: answers.append(http_get(port, "/there")), daemon=True)
        client.start()
        printed = debug(
            shlex.split(command),
            *("break write_response", "continue", "up", "print request[0]@10", "info symbol start_kernel", "delete", "detach"),
        )
        client.join(PATIENCE_SECONDS)
    assert '$1 = "GET /there"' in printed, printed
    assert "start_kernel in section .init.text" in printed
    assert answers == [(200, "Hello from a unikernel at /there\n")]


def test_the_kernel_is_debugged_from_its_start() -> None:
    image, debug_file = IMAGES / "debug-static.elf", IMAGES / "debug-static.elf.debug"
    gdb_port = free_port()
    with stopped_machine(image, free_port(), gdb_port, parameters=""):
        printed = debug(
            gdb_command(image, read_manifest(image), debug_file, {}, gdb_port), "hbreak start_kernel", "continue", "info symbol $pc"
        )
    assert re.search(r"^Breakpoint 1, .*start_kernel \(\)", printed, re.MULTILINE), printed
    assert re.search(r"^start_kernel in section .init.text", printed, re.MULTILINE), printed


def test_addresses_are_looked_up_without_a_debugger(tmp_path: Path) -> None:
    image, debug_file = IMAGES / "debug-static-pie.elf", IMAGES / "debug-static-pie.elf.debug"
    assert build_id(image) == build_id(debug_file)
    program = extract_programs(debug_file, tmp_path)["app/static-pie-hello"]

    def looked_up(file: Path, symbol: str) -> str:
        lines = subprocess.run(["nm", file], stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout.splitlines()
        (address,) = [line.split()[0] for line in lines if line.endswith(f" {symbol}")]
        command = ["addr2line", "-f", "-e", str(file), address]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout

    assert looked_up(debug_file, "start_thread").startswith("start_thread\n")
    function, place = looked_up(program, "write_response").split()[:2]
    assert function == "write_response" and place.endswith("src/services/hello/response.c:7")
