"""Runs an image in the foreground of a terminal or a script: its streams are this process's, its exit status the result."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.run.machine import CONSOLE, Ended, Machine, Output
from unikernel.run.options import RunOptions
from unikernel.run.output import JsonOutput, PlainOutput

_BLOCK = 4096
_INTERRUPT = b"\x03"
# So many Ctrl-C in a row stop a machine whose application does not end by them (docker run's number).
_INTERRUPTS, _ROW_SECONDS = 3, 3
# What an application has to end by itself after a signal that was passed on to it (docker stop's).
_GRACE_SECONDS = 10
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def do_nothing(machine: Machine) -> None:
    pass


def run_image(
    image: Path,
    options: RunOptions,
    log_format: str = "plain",
    on_start: Callable[[Machine], None] = do_nothing,
    debug_file: Path | None = None,
) -> int:
    """Returns the application's exit status; that of a runner that was asked to stop is 128 and the signal's number. `on_start` is called
    when the machine is there. `debug_file` is for what is said of a crash. Raises UnikernelError when the image cannot be booted, and when
    the machine ends without a status.
    """
    output = _SwitchedOutput()
    machine = Machine(image, options, output)
    is_separate = bool(machine.streams)
    json_output = None
    if log_format == "json":
        json_output = JsonOutput(sys.stdout.buffer, file_sha256(image), time.time)
        output.target = json_output
    else:
        output.target = PlainOutput(sys.stdout.buffer, sys.stderr.buffer, is_separate=is_separate)
    # Before the machine is there: a signal must not end the runner in between.
    with _signals() as signals, machine:
        on_start(machine)
        stopped_by = _attend(machine, signals)
        ended = machine.wait()
        assert ended is not None
    if ended.crash:
        from unikernel.run.crash import crash_text

        output.write(CONSOLE, crash_text(ended.crash, image, debug_file).encode())
    if json_output is not None:
        json_output.end()
    return _status(machine, ended, stopped_by)


def _status(machine: Machine, ended: Ended, stopped_by: int | None) -> int:
    if ended.status is not None:
        return ended.status
    if stopped_by is not None:
        return 128 + stopped_by
    raise UnikernelError(ended.failure)


class _SwitchedOutput:
    """What a machine's streams are is known when it is there."""

    target: Output

    def write(self, stream: str, data: bytes) -> None:
        self.target.write(stream, data)


def _attend(machine: Machine, signals: int) -> int | None:
    """Until the machine ends: passes on what is typed, and what this process is asked by signals. Returns the signal that it was stopped
    by, if it was.
    """
    interrupts = _Interrupts(machine)
    with selectors.DefaultSelector() as selector, _raw_terminal() as has_input:
        selector.register(machine, selectors.EVENT_READ, "machine")
        selector.register(signals, selectors.EVENT_READ, "signals")
        if has_input and stat.S_ISREG(os.fstat(0).st_mode):
            # A file is always ready, which selectors have no way to say.
            threading.Thread(target=_send_file, args=(machine,), daemon=True).start()
        elif has_input:
            selector.register(0, selectors.EVENT_READ, "input")
        while True:
            ready = {key.data for key, _ in selector.select(interrupts.timeout())}
            if "machine" in ready:
                return interrupts.stopped_by
            if "signals" in ready:
                for number in os.read(signals, 64):
                    interrupts.take_signal(signal.Signals(number))
            if "input" in ready:
                typed = os.read(0, _BLOCK)
                if not typed:
                    selector.unregister(0)
                interrupts.take_typed(typed)
            interrupts.check()


def _send_file(machine: Machine) -> None:
    for block in iter(lambda: os.read(0, _BLOCK), b""):
        machine.send(block)


class _Interrupts:
    """What ends an application from outside. One whose console is a terminal is asked there, by Ctrl-C, and its machine is stopped when
    that does not help; others have no way to be asked.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._can_ask = machine.library_os.terminal
        self._times: list[float] = []
        self._deadline: float | None = None
        self.stopped_by: int | None = None

    def take_typed(self, data: bytes) -> None:
        if _INTERRUPT in data:
            self._interrupted()
        self._machine.send(data)

    def take_signal(self, number: signal.Signals) -> None:
        if number not in _STOPPING:
            return
        if number is signal.SIGINT and self._can_ask:
            self._deadline = self._deadline or time.monotonic() + _GRACE_SECONDS
            self._interrupted()
            self._machine.send(_INTERRUPT)
        else:
            self._stop(number)

    def timeout(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def check(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            self._stop(signal.SIGINT)

    def _interrupted(self) -> None:
        now = time.monotonic()
        self._times = [*(then for then in self._times if now - then < _ROW_SECONDS), now]
        if not self._can_ask or len(self._times) >= _INTERRUPTS:
            self._stop(signal.SIGINT)

    def _stop(self, number: int) -> None:
        self.stopped_by = number
        self._machine.stop()


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that has the number of each signal that asks this process to stop (signal.set_wakeup_fd). One that this process was
    started to ignore stays ignored, as with nohup(1), or with what a script runs in its background.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    heeded = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda *_: None) for number in heeded}
    try:
        yield reading
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[bool]:
    """Whether there is an input to pass on. A terminal passes on each key as it is typed, those that end programs too; what it prints is
    as it was.
    """
    try:
        is_terminal = os.isatty(0)
        if not is_terminal:
            os.fstat(0)
    except OSError:
        yield False
        return
    if not is_terminal:
        # /dev/null has nothing, and is no file that can be waited for.
        yield not stat.S_ISCHR(os.fstat(0).st_mode)
        return
    if os.tcgetpgrp(0) != os.getpgrp():
        # In the background, reading would stop this process.
        yield False
        return
    import termios

    attributes = termios.tcgetattr(0)
    raw = termios.tcgetattr(0)
    raw[0] &= ~(termios.ICRNL | termios.IXON)
    raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    termios.tcsetattr(0, termios.TCSADRAIN, raw)
    try:
        yield True
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, attributes)
