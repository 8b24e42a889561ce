"""Files below `dist/`: which of them are as they were written, and putting others in place whole.

What was written is remembered with what the file system says of each file, as git's index does (its Documentation/technical/racy-git.txt): a file that
anyone wrote to, replaced, touched or copied since has another inode, size or time of change, and is no longer what was written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_VERSION = 1
# 10 ms at the most: Linux's CONFIG_HZ is 100 or more.
_TICK_SECONDS = 0.02
# Somebody else may put the same artifact in place at the same moment.
_TRIES = 10
# What a directory cannot take the place of, or a file.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


class DistPath(str):
    """The path of an artifact below `dist/`, which is left alone there as long as it is what it should be, and put in place whole otherwise.

    A plain `str` everywhere but where `dist/` is written: see `engine._write_dist`. `target` is whose artifact it is: what has changed of one
    target is put in place at once.
    """

    target: str

    def __new__(cls, path: str, target: str) -> DistPath:
        self = super().__new__(cls, path)
        self.target = target
        return self


@dataclass(frozen=True)
class DistFile:
    """`path` is below `dist/`; `sha256` is in hex."""

    path: str
    sha256: str
    is_executable: bool


class DistFiles:
    """Of the directory `root`. `state` is a directory for what is remembered, and for what is not in place yet; both are made when they are
    needed.
    """

    def __init__(self, root: Path, state: Path) -> None:
        self._root = root
        self._index = state / "index.json"
        self._staging = state / "staging"
        self._written = self._load()
        self._changed = False

    def is_written(self, artifact: str, files: Iterable[DistFile]) -> bool:
        """Whether the file or the directory `artifact` holds these files, as they were written, and no others."""
        wanted = {file.path: file for file in files}
        return all(self._is_as_written(file) for file in wanted.values()) and _files_below(self._root, artifact) == wanted.keys()

    def _is_as_written(self, file: DistFile) -> bool:
        written = self._written.get(file.path)
        return (
            written is not None
            and written[:2] == [file.sha256, file.is_executable]
            and written[2:] == _facts(self._root / file.path)
        )

    @contextlib.contextmanager
    def staged(self, files: Mapping[str, Iterable[DistFile]]) -> Iterator[Path]:
        """A directory to write some artifacts to, which are put in place when the block ends. Nothing of it stays when it fails, or, later,
        when the process is killed.
        """
        with self._staging_directory() as directory:
            yield directory
            for artifact, of_artifact in files.items():
                _put_in_place(directory / artifact, self._root / artifact, directory)
                self._changed = True
                for file in of_artifact:
                    self._written[file.path] = [file.sha256, file.is_executable, *(_facts(self._root / file.path) or ())]

    @contextlib.contextmanager
    def _staging_directory(self) -> Iterator[Path]:
        parent = self._staging
        parent.mkdir(parents=True, exist_ok=True)
        self._root.mkdir(parents=True, exist_ok=True)
        if os.stat(parent).st_dev != os.stat(self._root).st_dev:
            # Files can be moved within a file system only.
            parent = self._root
        _remove_abandoned(parent)
        directory, lock = _locked_directory(parent)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)

    def save(self) -> None:
        """Remembers what was written. Of two that do this at the same time one is forgotten, and what it wrote is written again."""
        if not self._changed:
            return
        # Who writes to a file from now on gives it another time of change: clocks of file systems tick.
        time.sleep(_TICK_SECONDS)
        self._index.parent.mkdir(parents=True, exist_ok=True)
        files = {path: written for path, written in self._written.items() if os.path.lexists(self._root / path)}
        with tempfile.NamedTemporaryFile("w", dir=self._index.parent, prefix="index-", delete=False) as file:
            json.dump({"version": _VERSION, "files": files}, file, separators=(",", ":"))
        os.replace(file.name, self._index)
        self._changed = False

    def _load(self) -> dict[str, list[object]]:
        try:
            document = json.loads(self._index.read_bytes())
            return dict(document["files"]) if document["version"] == _VERSION else {}
        except (OSError, ValueError, KeyError, TypeError):
            # As good as new: what is there is written again.
            return {}


def _facts(path: Path) -> list[object] | None:
    """What changes when a file does; None where there is none. Nobody can set the time of change (ctime)."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _files_below(root: Path, artifact: str) -> set[str]:
    """What is at a path, or below it: paths below `root`."""
    if not (root / artifact).is_dir() or (root / artifact).is_symlink():
        return {artifact}
    found: set[str] = set()
    for directory, _, names in os.walk(root / artifact):
        found.update(os.path.relpath(os.path.join(directory, name), root) for name in names)
    return found


# --- staging ------------------------------------------------------------------------------------------------------

_PREFIX = ".staging-"


def _locked_directory(parent: Path) -> tuple[Path, int]:
    """A new directory, which is locked for as long as the descriptor is open: by that others know that it is not abandoned."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = _lock(directory)
        if lock is not None:
            return directory, lock


def _lock(directory: Path) -> int | None:
    """None where somebody else has the lock, or where the directory is gone."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(directory)
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(parent: Path) -> None:
    """What processes left that were killed."""
    for directory in parent.glob(f"{_PREFIX}*"):
        lock = _lock(directory)
        if lock is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)


def _put_in_place(new: Path, place: Path, scratch: Path) -> None:
    """Moves a file or a directory to where there may be another: a file at once, a directory in two steps."""
    place.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        try:
            os.replace(new, place)
            return
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        with contextlib.suppress(FileNotFoundError):
            os.replace(place, os.path.join(tempfile.mkdtemp(prefix="old-", dir=scratch), "old"))
    os.replace(new, place)
