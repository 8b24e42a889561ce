"""`unikernel run` as a process among others: what it leaves behind when it is killed, and what a terminal's keys do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from machine import PATIENCE_SECONDS, free_port
from unikernel.image.spec import Port
from unikernel.run.machine import Ended, Machine
from unikernel.run.options import RunOptions
from unikernel.testing.signals import default_signals

HELLO = Path("src.services.hello/unikernel.elf")
ARGUMENTS = Path("src.services.arguments/unikernel.elf")
KILLS = 50


def _command(image: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "unikernel", "run", "--accel=tcg", *options, str(image)]


def _environment(temporary: Path) -> dict[str, str]:
    temporary.mkdir()
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(temporary)}


def _machines(port: int) -> list[psutil.Process]:
    """Those that forward the port, and are no zombies."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if any(f":{port}-" in word for word in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_killed_at_any_moment_nothing_stays_behind(tmp_path: Path) -> None:
    port, moments = free_port(), random.Random(7)
    environment = _environment(tmp_path / "temporary")
    before = set(os.listdir("/dev/shm"))
    command = _command(HELLO, f"--port={port}:8080")
    for turn in range(KILLS):
        # Otherwise, one that is not yet ready for a signal would ignore it under nohup.
        with default_signals():
            runner = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        assert runner.stdout is not None
        if turn % 5 == 0:
            # Its application runs.
            assert any(b"listening" in line for line in runner.stdout), f"turn {turn}"
        else:
            time.sleep(moments.uniform(0, 1.5))
        runner.send_signal((signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)[turn % 4])
        runner.wait(PATIENCE_SECONDS)
        runner.stdout.close()
        deadline = time.monotonic() + 5
        while _machines(port) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _machines(port), f"turn {turn}"
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert set(os.listdir("/dev/shm")) <= before


class _Log:
    def __init__(self) -> None:
        self.text: dict[str, bytes] = {}

    def write(self, stream: str, data: bytes) -> None:
        self.text[stream] = self.text.get(stream, b"") + data


def test_the_system_picks_ports_for_machines_that_run_at_once() -> None:
    options = RunOptions(ports=[Port(8080, 0)], accelerator="tcg")
    logs = [_Log(), _Log(), _Log()]
    with contextlib.ExitStack() as stack:
        machines = [stack.enter_context(Machine(HELLO, options, log)) for log in logs]
        ports = {machine.ports[8080, "tcp"] for machine in machines}
        assert len(ports) == 3 and 0 not in ports
        for port in ports:
            _until_it_answers(port)
        machines[0].stop()
        assert machines[0].wait() == Ended(None, "The machine was stopped.")
        assert machines[1].wait(0.1) is None
    assert not [port for port in ports if _machines(port)]


def _until_it_answers(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            if connection.recv(100):
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing answers on {port}")


def test_the_status_of_an_application_is_known_to_who_waits() -> None:
    log = _Log()
    with Machine(ARGUMENTS, RunOptions(arguments=["--status=77"], accelerator="tcg"), log) as machine:
        assert machine.wait(PATIENCE_SECONDS) == Ended(77)
    assert b"unikernel: exited with status 77" in log.text["console"]


@contextlib.contextmanager
def _in_a_terminal(command: list[str], environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process, and the end of the terminal that a person has."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=take_terminal)
    # Only the process has it: what reads here is not left waiting when that ends.
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read_until(terminal: int, words: bytes) -> None:
    seen = b""
    while words not in seen:
        try:
            seen += os.read(terminal, 1000)
        except OSError as error:
            raise AssertionError(seen.decode(errors="replace")) from error


def test_control_c_reaches_the_application_and_the_terminal_is_as_it_was(tmp_path: Path) -> None:
    command = _command(HELLO, f"--port={free_port()}:8080")
    with _in_a_terminal(command, _environment(tmp_path / "temporary")) as (process, terminal):
        before = termios.tcgetattr(terminal)
        _read_until(terminal, b"listening")
        assert termios.tcgetattr(terminal)[3] & termios.ICANON == 0
        os.write(terminal, b"\x03")
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGINT
        assert termios.tcgetattr(terminal) == before
        _read_until(terminal, b"killed by signal 2")
