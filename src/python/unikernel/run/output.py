"""Where what comes out of a machine goes: to this process's own streams, or to lines of JSON."""

from __future__ import annotations

import datetime
import json
import os
import threading
from typing import BinaryIO, Callable

from unikernel.run.machine import CONSOLE, STDOUT

# A line that is longer is cut: log shippers have limits of their own.
_LONGEST_LINE = 1 << 16


class PlainOutput:
    """The application's streams to `stdout` and `stderr`, byte for byte. The console goes to `stderr` where the application's streams
    arrive beside it (`is_separate`), and to `stdout` where they are in it.
    """

    def __init__(self, stdout: BinaryIO, stderr: BinaryIO, *, is_separate: bool) -> None:
        self._stdout, self._stderr = stdout, stderr
        self._console = stderr if is_separate else stdout
        self._is_separate = is_separate
        # What ends up in one place is one text, in which the console's lines begin at the beginning of a line.
        self._is_one = _same_file(stdout, stderr)
        self._unfinished = {STDOUT: False, "stderr": False}

    def write(self, stream: str, data: bytes) -> None:
        if stream == CONSOLE:
            if self._is_separate:
                # A terminal's end of a line; here it is a log.
                data = data.replace(b"\r\n", b"\n")
                if self._ends_nothing() and data:
                    data = b"\n" + data.lstrip(b"\n")
            target = self._console
        else:
            self._unfinished[stream] = not data.endswith(b"\n")
            target = self._stdout if stream == STDOUT else self._stderr
        target.write(data)
        target.flush()

    def _ends_nothing(self) -> bool:
        """Whether what was printed last, where the console goes to, has no end of its line. True only once."""
        streams = [STDOUT, "stderr"] if self._is_one else ["stderr"]
        found = any(self._unfinished[stream] for stream in streams)
        for stream in streams:
            self._unfinished[stream] = False
        return found


def _same_file(one: BinaryIO, other: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))
    except (OSError, ValueError):
        return False


class JsonOutput:
    """A JSON object a line, for log shippers: `time` (UTC, RFC 3339), `stream`, `image` (its SHA-256) and `message`, the line without its
    end. What is no UTF-8 becomes U+FFFD. A line that is not ended is written at the end, and one that is too long in pieces.
    """

    def __init__(self, target: BinaryIO, image_sha256: str, now: Callable[[], float]) -> None:
        self._target, self._image, self._now = target, image_sha256, now
        self._pending: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def write(self, stream: str, data: bytes) -> None:
        with self._lock:
            *lines, rest = (self._pending.get(stream, b"") + data).split(b"\n")
            while len(rest) > _LONGEST_LINE:
                lines.append(rest[:_LONGEST_LINE])
                rest = rest[_LONGEST_LINE:]
            self._pending[stream] = rest
            self._target.write(b"".join(self._wrapped(stream, line) for line in lines))
            self._target.flush()

    def end(self) -> None:
        for stream, rest in self._pending.items():
            if rest:
                self.write(stream, b"\n")

    def _wrapped(self, stream: str, line: bytes) -> bytes:
        time = datetime.datetime.fromtimestamp(self._now(), datetime.timezone.utc).isoformat(timespec="microseconds")
        text = line.rstrip(b"\r").decode(errors="replace")
        document = {"time": time.replace("+00:00", "Z"), "stream": stream, "image": f"sha256:{self._image}", "message": text}
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"
