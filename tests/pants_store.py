"""Pants' local store, from outside: whether what it holds is what its names say, and how much that is.

Pants 2.17 keeps small files, and directories and results of processes, in LMDB databases, sharded by the first digit of their names; files
of 512 KiB and more are files by themselves (its src/rust/engine/fs/store and sharded_lmdb).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import lmdb

from unikernel.digests import file_sha256

_DATABASES = ("cache", "directories", "files")
_CONTENT = b"content-versioned"
# A name is a SHA-256 and a version of the format.
_NAME_BYTES = 32
# Pages are mapped as they are read: this is address space.
_MAP_BYTES = 1 << 40


def store_of(cache: Path) -> Path:
    """The local store below a directory that is $XDG_CACHE_HOME."""
    return cache / "pants/lmdb_store"


def damaged_entries(store: Path, whole: set[tuple[str, bytes]] | None = None) -> list[str]:
    """What does not have the digest that it is stored by. Results of processes are named by other digests: they only have to be readable.

    What is in `whole` (databases and names) is not looked into: what else there is in them as it should be is added to it.
    """
    damaged = []
    whole = set() if whole is None else whole
    for database, name, content in _entries(store):
        if (database, name) in whole:
            continue
        sha256 = hashlib.sha256(content).digest()
        if sha256 == name or database == "cache":
            whole.add((database, name))
        else:
            damaged.append(f"{database}: {name.hex()}")
    for file in _large_files(store):
        facts = file.stat()
        if _sha256(file, facts.st_ino, facts.st_mtime_ns, facts.st_size) != file.name:
            damaged.append(str(file))
    return damaged


@functools.cache
def _sha256(file: Path, inode: int, changed: int, size: int) -> str:
    """Once for each version of a file: there are GB of them."""
    return file_sha256(file)


def stored_bytes(store: Path) -> int:
    """Of all content: the space that files and databases take up is some more."""
    small = sum(len(content) for _, _, content in _entries(store))
    return small + sum(file.stat().st_size for file in _large_files(store))


def _entries(store: Path) -> Iterator[tuple[str, bytes, memoryview]]:
    """Database, name and content of each: its pages are read by who looks into it, before the next one is asked for."""
    for database in _DATABASES:
        for shard in sorted((store / database).iterdir()):
            with lmdb.open(str(shard), readonly=True, max_dbs=2, map_size=_MAP_BYTES) as environment:
                content = environment.open_db(_CONTENT, create=False)
                with environment.begin(content, buffers=True) as transaction:
                    for name, value in transaction.cursor():
                        yield database, bytes(name)[:_NAME_BYTES], value


def _large_files(store: Path) -> Iterator[Path]:
    for file in sorted((store / "immutable/files").glob("??/*")):
        # Others are being written, or were when Pants was killed.
        if len(file.name) == 2 * _NAME_BYTES and file.is_file():
            yield file
