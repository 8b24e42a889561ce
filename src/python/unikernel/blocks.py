"""Parts of files, a block at a time."""

from __future__ import annotations

from typing import Any, BinaryIO, Protocol

_BLOCK = 1 << 20


class Writer(Protocol):
    def write(self, data: bytes, /) -> Any:
        ...


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
