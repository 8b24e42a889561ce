"""Runs other programs: their output goes to the log, and line by line to whoever counts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

_LAST_LINES = 200


class Interrupted(BaseException):
    """Ctrl-C, or a request to end (SIGTERM, SIGHUP)."""


class CommandFailed(Exception):
    """A program that failed. `lines` are the last ones that it printed."""

    def __init__(self, argv: Sequence[str], status: int, lines: Sequence[str]) -> None:
        super().__init__(f"{argv[0]} ended with status {status}")
        self.lines = tuple(lines)

    def has(self, *texts: str) -> bool:
        """Return whether any of the texts is in what the program printed."""
        return any(text in line for text in texts for line in self.lines)

    @property
    def reason(self) -> str:
        """The first line that is an error, or else the last one that is not empty."""
        said = [line.strip() for line in self.lines if line.strip()]
        errors = [line for line in said if line.startswith(("E: ", "ERROR: ", "dpkg: error "))]
        return errors[0] if errors else (said or ["it printed nothing"])[-1]


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise Interrupted in the block on SIGINT, SIGTERM and SIGHUP, once."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        raise Interrupted

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    yield


def run(
    argv: Sequence[str],
    *,
    log: Path,
    environment: Optional[Mapping[str, str]] = None,
    on_line: Optional[Callable[[str], None]] = None,
    must_end: Optional[Callable[[], bool]] = None,
    directory: Optional[Path] = None,
) -> list[str]:
    """Run a program and return the last lines of its output; raise CommandFailed when it fails.

    The program is in a session of its own, so that Ctrl-C reaches this process alone, which then ends
    the program: at once, or, where `must_end` returns True, by waiting for it.
    """
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    with log.open("a", encoding="utf-8", errors="replace") as written:
        written.write(f"$ {' '.join(argv)}\n")
        written.flush()
        process = subprocess.Popen(
            argv,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert process.stdout is not None

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                written.write(line)
                if on_line is not None:
                    on_line(line.rstrip("\n"))

        try:
            read()
            status = process.wait()
        except Interrupted:
            if must_end is None or not must_end():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            read()
            process.wait()
            raise
        except BaseException:
            process.kill()
            process.wait()
            raise
    if status != 0:
        raise CommandFailed(argv, status, lines)
    return list(lines)
