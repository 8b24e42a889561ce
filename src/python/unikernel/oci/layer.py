"""Tar archives as layers of images have them, with the same bytes for the same content, and layers of a few whole files."""

from __future__ import annotations

import gzip
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Optional, cast

from unikernel.blocks import HashingWriter
from unikernel.rootfs.cpio import MODIFICATION_TIME, ROOT

# With its content, of a file.
Member = tuple[tarfile.TarInfo, Optional[BinaryIO]]


@dataclass(frozen=True)
class LayerFile:
    """`path` is absolute; `owner` is user and group."""

    path: str
    source: Path
    mode: int = 0o644
    owner: tuple[int, int] = ROOT


def write_files_layer(files: Sequence[LayerFile], path: Path, *, compressed: bool = True) -> str:
    """Writes them with the directories above them, as `write_archive` does."""
    return write_archive(_members(files), path, compressed=compressed)


def _members(files: Sequence[LayerFile]) -> Iterator[Member]:
    directories: set[str] = set()
    for file in sorted(files, key=lambda file: file.path):
        for parent in list(Path(file.path).parents)[-2::-1]:
            if str(parent) not in directories:
                directories.add(str(parent))
                yield tar_member(str(parent)[1:], stat.S_IFDIR | 0o755, owner=file.owner), None
        with file.source.open("rb") as content:
            yield tar_member(file.path[1:], stat.S_IFREG | file.mode, size=file.source.stat().st_size, owner=file.owner), content


def tar_member(name: str, mode: int, *, size: int = 0, target: str | None = None, owner: tuple[int, int] = ROOT) -> tarfile.TarInfo:
    """`mode` is as in `st_mode`; `size` is a file's, `target` a symbolic link's."""
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = stat.S_IMODE(mode), MODIFICATION_TIME
    member.uid, member.gid = owner
    if stat.S_ISDIR(mode):
        member.type = tarfile.DIRTYPE
    elif target is not None:
        member.type, member.linkname = tarfile.SYMTYPE, target
    else:
        member.size = size
    return member


def write_archive(members: Iterable[Member], path: Path, *, compressed: bool) -> str:
    """Each member is written before the next is asked for. Returns the digest of the archive before compression ("sha256:" and hex)."""
    with path.open("wb") as stream:
        if compressed:
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as through:
                return _write(members, HashingWriter(through))
        return _write(members, HashingWriter(stream))


def _write(members: Iterable[Member], hashing: HashingWriter) -> str:
    with tarfile.open(fileobj=cast(IO[bytes], hashing), mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for member, content in members:
            archive.addfile(member, content)
    return f"sha256:{hashing.sha256.hexdigest()}"
