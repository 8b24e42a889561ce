"""Parts of files, a block at a time."""

from __future__ import annotations

import hashlib
import io
from typing import Any, BinaryIO, Protocol

_BLOCK = 1 << 20


class Writer(Protocol):
    def write(self, data: bytes, /) -> Any:
        ...


class HashingWriter:
    """Hashes and counts what is written, and hands it on, if there is something to hand it to."""

    def __init__(self, destination: Writer | None = None) -> None:
        self._destination = destination
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        if self._destination is not None:
            self._destination.write(data)
        return len(data)


class Part(io.RawIOBase):
    """`size` bytes of a file from `start`, to read from front to back. The file stays open; nothing else may read it meanwhile."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file = file
        self._left = size
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(block)
        return block


class OwnPart(Part):
    """One that closes its file with itself."""

    def close(self) -> None:
        self._file.close()
        super().close()


def copy_bytes(source: BinaryIO, destination: Writer, size: int) -> int:
    """Copies at most `size` bytes from where `source` is, and returns how many there were."""
    left = size
    while left:
        block = source.read(min(left, _BLOCK))
        if not block:
            break
        destination.write(block)
        left -= len(block)
    return size - left
