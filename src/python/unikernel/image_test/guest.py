"""How a report of a test that runs in an image comes out of it: by the console, which every library OS has.

The guest (`pytest_in_guest.py`) prints lines of its own, at the end: `@@unikernel-report NUMBER TEXT`, where the texts, one after
another, are a zlib stream in base64, and `@@unikernel-report end COUNT SHA256 STATUS`. Numbers start at 0; the digest (hex) is that of the
report itself. Other lines may come in between, such as a kernel's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib

MARK = b"@@unikernel-report "
_LINE = re.compile(
    rb"(?P<before>.*)@@unikernel-report (?:(?P<number>\d+) (?P<text>[A-Za-z0-9+/=]+)|end (?P<end>\d+ [0-9a-f]{64} \d+))\s*"
)


class ReportLines:
    """The lines of a report among those of a console. `status` is the guest's own, once the report is complete."""

    def __init__(self) -> None:
        self._texts: dict[int, bytes] = {}
        self._end: tuple[int, str, int] | None = None

    def take(self, line: bytes) -> bytes:
        """What of the line is not the report's: all of another line."""
        match = _LINE.fullmatch(line) if MARK in line else None
        if match is None:
            return line
        if match["end"]:
            count, digest, status = match["end"].decode().split()
            self._end = (int(count), digest, int(status))
        else:
            self._texts[int(match["number"])] = match["text"]
        return match["before"] + b"\n" if match["before"] else b""

    @property
    def is_complete(self) -> bool:
        return self._end is not None

    @property
    def status(self) -> int | None:
        return self._end[2] if self._end is not None else None

    def content(self) -> bytes:
        """Raises ValueError for a report that did not come through."""
        if self._end is None:
            raise ValueError("no report came from the image")
        count, digest, _ = self._end
        missing = sorted(set(range(count)) - set(self._texts))
        if missing:
            raise ValueError(f"{len(missing)} of the {count} lines of the report did not come through")
        try:
            content = zlib.decompress(base64.b64decode(b"".join(self._texts[number] for number in range(count)), validate=True))
        except (binascii.Error, zlib.error) as error:
            raise ValueError(f"the report did not come through: {error}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("the report did not come through: it has another digest")
        return content
