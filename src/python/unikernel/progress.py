"""The progress of a long step: lines in a file, for a program that watches it while the step runs.

A build system captures what a process prints and shows it afterwards, if at all. A file outside of the process's sandbox can be
read in the meantime. `Progress` writes it and `ProgressReader` reads it; without such a file, nothing is written.

The first line tells runs of a step apart, each other one is a message. A message is complete when its line has an end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

# The file's path, in the environment of the process.
PROGRESS_VARIABLE = "UNIKERNEL_PROGRESS"
SECONDS_BETWEEN_COUNTS = 10.0


class Progress:
    """Reports progress to the file that the environment variable `UNIKERNEL_PROGRESS` names, or to nobody.

    A file that cannot be written, such as one on a machine other than the watching program's, is ignored: the step matters more.
    """

    def __init__(self, file: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_count = clock()
        self._descriptor = -1
        if file:
            try:
                self._descriptor = _new_file(Path(file))
            except OSError:
                pass

    @classmethod
    def from_environment(cls) -> Progress:
        return cls(os.environ.get(PROGRESS_VARIABLE, ""))

    def report(self, message: str) -> None:
        """Report what begins or has ended."""
        self._next_count = self._clock() + SECONDS_BETWEEN_COUNTS
        if self._descriptor >= 0:
            try:
                os.write(self._descriptor, f"{' '.join(message.split())}\n".encode())
            except OSError:
                pass

    def count(self, message: str) -> None:
        """Report how far the step is, unless it reported anything within the last ten seconds."""
        if self._clock() >= self._next_count:
            self.report(message)


def _new_file(path: Path) -> int:
    """Replace the file of an earlier run, which may still be read or written, by one of this run."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.write(descriptor, f"{os.getpid()} {time.time_ns()}\n".encode())
    os.replace(partial, path)
    return descriptor


class ProgressReader:
    """Reads what a run that starts after the reader was made reports. `path` need not be there, now or ever."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._run = self._lines()[:1]
        # None: all that the file has is an earlier run's.
        self._read: int | None = None

    def new_messages(self) -> list[str]:
        """Return the messages since the last call."""
        run, messages = (lines := self._lines())[:1], lines[1:]
        if run != self._run:
            self._run, self._read = run, 0
        if self._read is None:
            return []
        new, self._read = messages[self._read :], len(messages)
        return new

    def _lines(self) -> list[str]:
        try:
            complete, end, _ = self._path.read_bytes().rpartition(b"\n")
        except OSError:
            return []
        return complete.decode(errors="replace").split("\n") if end else []
