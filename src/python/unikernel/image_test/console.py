"""The console of an image that is tested: lines as they come, and expressions that are waited for."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import BinaryIO, Callable

from unikernel.image_test.guest import ReportLines

# Escape sequences of terminals: ECMA-48, section 5.4.
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
# A line that does not end for so long is looked at as it is: a prompt.
_QUIET_SECONDS = 0.3
# Of what is kept. A service that writes more in a test is looked at all the same.
_MOST_BYTES = 16 << 20


def plain(line: bytes) -> str:
    """As expressions see it: without what moves cursors and colours."""
    return _ESCAPE.sub("", line.decode(errors="replace")).rstrip("\r\n")


class Console:
    """What a machine writes to; from any thread. `wanted` and `unwanted` are regular expressions for lines."""

    def __init__(self, wanted: Sequence[str] = (), unwanted: Sequence[str] = (), live: BinaryIO | None = None) -> None:
        self._expressions = {text: re.compile(text) for text in (*wanted, *unwanted)}
        # The first line that each expression matches.
        self._found: dict[str, str] = {}
        self._lines: list[bytes] = []
        self._size = 0
        self._left_out = 0
        self._partial: dict[str, bytes] = {}
        self._last = 0.0
        self._changed = threading.Condition()
        self._live = live
        self.report = ReportLines()

    def write(self, stream: str, data: bytes) -> None:
        with self._changed:
            self._last = time.monotonic()
            *lines, rest = (self._partial.get(stream, b"") + data).split(b"\n")
            self._partial[stream] = rest
            for line in lines:
                self._add(line + b"\n")
            self._changed.notify_all()

    def finish(self) -> None:
        """Nothing more comes."""
        with self._changed:
            for line in self._partial.values():
                if line:
                    self._add(line + b"\n")
            self._partial = {}
            self._changed.notify_all()

    def _add(self, raw: bytes) -> None:
        line = self.report.take(raw)
        if not line:
            return
        if self._live is not None:
            self._live.write(line)
            self._live.flush()
        self._look(line)
        if self._size + len(line) > _MOST_BYTES:
            self._left_out += len(line)
            return
        self._size += len(line)
        self._lines.append(line)

    def _look(self, line: bytes) -> None:
        if len(self._found) == len(self._expressions):
            return
        text = plain(line)
        for name, expression in self._expressions.items():
            if name not in self._found and expression.search(text):
                self._found[name] = text

    def found(self, expression: str) -> str | None:
        """The first line that it matches."""
        with self._changed:
            return self._found.get(expression)

    def wait_for(self, expression: str, timeout: float | None) -> bool:
        """Whether a line matches it within some seconds."""

        def look() -> bool:
            if time.monotonic() - self._last >= _QUIET_SECONDS:
                for line in self._partial.values():
                    self._look(line)
            return expression in self._found

        return self._wait(look, timeout)

    def wait_for_report(self, timeout: float | None) -> bool:
        """Whether the guest's report is there, whole, within some seconds."""
        return self._wait(lambda: self.report.is_complete, timeout)

    def _wait(self, holds: Callable[[], bool], timeout: float | None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not holds():
                left = _QUIET_SECONDS if end is None else min(end - time.monotonic(), _QUIET_SECONDS)
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    @property
    def content(self) -> bytes:
        """All of it, but for a report, and what is above the most that is kept: a line at the end says so."""
        with self._changed:
            end = f"({self._left_out} bytes more were not kept)\n".encode() if self._left_out else b""
            return b"".join(self._lines) + end

    def last_lines(self, count: int) -> list[str]:
        with self._changed:
            return [plain(line) for line in self._lines[-count:]]
