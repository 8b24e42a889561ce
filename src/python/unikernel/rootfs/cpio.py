"""The `newc` cpio format: what Linux unpacks as an initramfs.

Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source. Written by hand, because an archive made
here needs no root (device nodes, owners) and must come out the same, byte for byte, for the same entries.

The data of each file starts at a page boundary of the archive: names are padded with NULs, which the format allows. So the image's
pages can become the files' as they are (see linux/kernel/rootfs.c).
"""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
_FILLER = b"."
_TRAILER_NAME = TRAILER.encode() + b"\0"
# 1980-01-01: as old as a zip archive made inside the guest can express, and what PEX uses.
MODIFICATION_TIME = 315532800
# The header's size fields are 32 bits wide.
LARGEST_FILE = 2**32 - 1
PAGE = 4096
_HEADER = 110
# Numbers of user and group.
ROOT = (0, 0)
# PATH_MAX, with the NUL: the kernel skips an entry with a longer name.
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class CpioEntry:
    """One member. `mode` holds type and permissions as in `st_mode`; `device` is (major, minor) of a device node, `owner` (uid, gid)."""

    path: str
    mode: int
    size: int
    device: tuple[int, int] = (0, 0)
    owner: tuple[int, int] = ROOT


class CpioWriter:
    """Writes entries in the order they come. Paths are relative, without a leading slash. Without `aligned`, names are not padded, for
    other readers than our kernel.
    """

    def __init__(self, stream: BinaryIO, *, aligned: bool = True) -> None:
        self._stream = stream
        self._aligned = aligned
        self._inode = 0
        self._position = 0

    def add(
        self,
        path: str,
        mode: int,
        content: BinaryIO | None = None,
        size: int = 0,
        device: tuple[int, int] = (0, 0),
        owner: tuple[int, int] = ROOT,
    ) -> None:
        name = path.encode("utf-8", "surrogateescape") + b"\0"
        if size and self._aligned and stat.S_ISREG(mode):
            padding = -(self._position + _HEADER + len(name)) % PAGE
            if len(name) + padding > _LONGEST_NAME:
                # What is left to a multiple of four bytes is padded after each name.
                self._fill(padding - padding % 4)
                padding = 0
            name += bytes(padding)
        self._write_header(name, mode, size, device, owner)
        if size:
            assert content is not None
            self._copy(path, content, size)
            self._write(bytes(-size % 4))

    def _fill(self, size: int) -> None:
        """An entry of `size` bytes, or a page more, that changes nothing: the root directory, which is there."""
        size += PAGE if size < _HEADER + 2 else 0
        self._write_header(_FILLER.ljust(size - _HEADER, b"\0"), stat.S_IFDIR | 0o755, 0, (0, 0), ROOT)

    def _write_header(self, name: bytes, mode: int, size: int, device: tuple[int, int], owner: tuple[int, int]) -> None:
        self._inode += 1
        is_directory = stat.S_ISDIR(mode)
        # Checksum 0: only the `crc` variant has one.
        numbers = (
            self._inode,
            mode,
            *owner,
            2 if is_directory else 1,
            0 if name == _TRAILER_NAME else MODIFICATION_TIME,
            size,
            0,
            0,
            *device,
            len(name),
            0,
        )
        header = MAGIC + "".join(f"{number:08x}" for number in numbers).encode() + name
        self._write(header + bytes(-len(header) % 4))

    def _copy(self, path: str, content: BinaryIO, size: int) -> None:
        """The header has promised `size` bytes: a file that has changed since would damage everything after it."""
        left = size
        while left:
            block = content.read(min(left, 1 << 20))
            if not block:
                raise ValueError(f"{path} became shorter while it was read")
            self._write(block)
            left -= len(block)
        if content.read(1):
            raise ValueError(f"{path} became longer while it was read")

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._position += len(data)

    def close(self) -> None:
        """Ends the archive. The stream stays open; another archive may follow: the kernel unpacks one after another."""
        self._inode = -1
        self.add(TRAILER, 0)


def scan_cpio(stream: BinaryIO) -> Iterator[tuple[CpioEntry, int]]:
    """The entries of one archive and the offsets of their contents, without fillers and the trailer. `stream` can seek, and is behind the
    archive at the end: another one may follow.

    Raises ValueError on all else than newc.
    """
    position = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    while True:
        stream.seek(position)
        header = stream.read(_HEADER)
        if len(header) != _HEADER or header[:6] != MAGIC:
            raise ValueError("not a newc cpio archive, or a truncated one")
        fields = [int(header[start : start + 8], 16) for start in range(6, _HEADER, 8)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        encoded = stream.read(name_size)
        if len(encoded) != name_size or not encoded.endswith(b"\0"):
            raise ValueError("truncated archive in a name")
        encoded = encoded.rstrip(b"\0")
        name = encoded.decode("utf-8", "surrogateescape")
        start = position + _HEADER + name_size + -(_HEADER + name_size) % 4
        if name == TRAILER:
            stream.seek(start)
            return
        if start + size > end:
            raise ValueError(f"truncated archive in {name}")
        position = start + size + -size % 4
        if encoded != _FILLER:
            yield CpioEntry(name, mode, size, (fields[9], fields[10]), (fields[2], fields[3])), start


def read_cpio(stream: BinaryIO) -> Iterator[tuple[CpioEntry, bytes]]:
    """The entries of one archive with their contents."""
    for entry, start in scan_cpio(stream):
        stream.seek(start)
        yield entry, stream.read(entry.size)


def read_cpio_bytes(data: bytes) -> list[tuple[CpioEntry, bytes]]:
    return list(read_cpio(io.BytesIO(data)))
