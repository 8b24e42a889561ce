"""Parts of files, a block at a time."""

from __future__ import annotations

import hashlib
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
