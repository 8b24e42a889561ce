"""Looks on a console for what a library OS says of its end."""

from __future__ import annotations

import re

from unikernel.library_os.description import Exit

# Of a line that is looked at.
_LONGEST_LINE = 1 << 16


class ConsoleWatch:
    """`status` and `failure` are there when a line has said so."""

    def __init__(self, exit: Exit) -> None:
        self.status: int | None = None
        self.failure = ""
        self._status = re.compile(exit.status.encode()) if exit.status else None
        self._failure = re.compile(exit.failure.encode()) if exit.failure else None
        self._line = b""

    def feed(self, block: bytes) -> None:
        *lines, self._line = (self._line + block).split(b"\n")
        for line in lines:
            self._look(line)
        self._line = self._line[-_LONGEST_LINE:]

    def end(self) -> None:
        """What comes after the last end of a line counts too."""
        self._look(self._line)

    def _look(self, line: bytes) -> None:
        found = self._status.search(line) if self._status else None
        if found is not None:
            self.status = int(found[1]) & 0xFF
        if self._failure is not None and not self.failure:
            failed = self._failure.search(line)
            if failed is not None:
                self.failure = line[failed.start() :].decode(errors="replace").strip()
