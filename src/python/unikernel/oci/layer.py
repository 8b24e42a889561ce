"""Layers of a few whole files: what packages of unikernels are made of."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from unikernel.blocks import HashingWriter
from unikernel.rootfs.cpio import MODIFICATION_TIME


@dataclass(frozen=True)
class LayerFile:
    """`path` is absolute; `owner` is user and group."""

    path: str
    source: Path
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)


def write_files_layer(files: Sequence[LayerFile], path: Path, *, compressed: bool = True) -> str:
    """Writes them as a tar archive with the directories above them; returns the digest of the archive before compression ("sha256:" and
    hex).
    """
    with path.open("wb") as stream:
        if compressed:
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as through:
                return _write(files, HashingWriter(through))
        return _write(files, HashingWriter(stream))


def _write(files: Sequence[LayerFile], hashing: HashingWriter) -> str:
    with tarfile.open(fileobj=cast(IO[bytes], hashing), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        directories: set[str] = set()
        for file in sorted(files, key=lambda file: file.path):
            for parent in list(Path(file.path).parents)[-2::-1]:
                if str(parent) not in directories:
                    directories.add(str(parent))
                    archive.addfile(_member(str(parent), tarfile.DIRTYPE, 0o755, file.owner))
            member = _member(file.path, tarfile.REGTYPE, file.mode, file.owner)
            member.size = file.source.stat().st_size
            with file.source.open("rb") as content:
                archive.addfile(member, content)
    return f"sha256:{hashing.sha256.hexdigest()}"


def _member(path: str, kind: bytes, mode: int, owner: tuple[int, int]) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path[1:])
    member.type, member.mode, member.mtime = kind, mode, MODIFICATION_TIME
    member.uid, member.gid = owner
    return member
