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
from typing import Any, Optional

from pants.engine.fs import Digest

_VERSION = 2
# 10 ms at the most: Linux's CONFIG_HZ is 100 or more.
_TICK_SECONDS = 0.02
# Somebody else may put the same artifact in place at the same moment.
_TRIES = 10
# What a directory cannot take the place of, or a file.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


@dataclass(frozen=True)
class DistImage:
    """The image of a package, for the line that ends `package`: who signed it, and whether it serves ports."""

    signer: str
    is_server: bool


@dataclass(frozen=True)
class DistPackage:
    """The files that a target writes to `dist/`, all of them in `digest`.

    `documents` are artifacts like those that the target names, but the log does not list them. `basis`
    stands for what the signatures vouch for, and for who signed. `image` is there for an image.
    """

    target: str
    digest: Digest
    documents: tuple[str, ...] = ()
    basis: str = ""
    image: Optional[DistImage] = None


class DistPath(str):
    """The path of an artifact below `dist/`, which is left alone there as long as it is what it should be, and put in place whole otherwise.

    A plain `str` everywhere but where `dist/` is written: see `engine._write_dist`. `package` is all that its target writes, this artifact among
    it: what has changed of a package is put in place at once, and what has not is not looked into.
    """

    package: DistPackage

    def __new__(cls, path: str, package: DistPackage) -> DistPath:
        self = super().__new__(cls, path)
        self.package = package
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

    A package's artifacts are files and directories, each at its path below `root`. By its digest, what did not change is known without looking
    into it.
    """

    def __init__(self, root: Path, state: Path) -> None:
        self._root = str(root)
        self._index = state / "index.json"
        self._staging = state / "staging"
        self._packages = self._load()
        self._changed = False

    def is_written(self, package: DistPackage, artifacts: Iterable[str]) -> bool:
        """Whether these artifacts, which are all of the package, are there as they were written, and nothing else at their places."""
        written = self._packages.get(package.target)
        return (
            written is not None
            and written["digest"] == package.digest.fingerprint
            and written["basis"] == package.basis
            and written["artifacts"].keys() == set(artifacts)
            and all(self._is_untouched(artifact, files) for artifact, files in written["artifacts"].items())
        )

    def has_written(self, target: str, artifact: str, files: Iterable[DistFile]) -> bool:
        """Whether the target's artifact holds these files, as they were written, and no others."""
        written = self._packages.get(target, {}).get("artifacts", {}).get(artifact)
        return (
            written is not None
            and {path: fact[:2] for path, fact in written.items()}
            == {file.path: [file.sha256, file.is_executable] for file in files}
            and self._is_untouched(artifact, written)
        )

    def read(self, target: str, basis: str, paths: Iterable[str]) -> Optional[dict[str, bytes]]:
        """Files that are artifacts of the target's package, by path, if that has this basis and all of them are as they were written."""
        package = self._packages.get(target)
        if package is None or package["basis"] != basis:
            return None
        contents = {}
        for path in paths:
            written = package["artifacts"].get(path, {}).get(path)
            try:
                with open(os.path.join(self._root, path), "rb") as file:
                    if written is None or written[2:] != _facts_of(os.fstat(file.fileno())):
                        return None
                    contents[path] = file.read()
            except OSError:
                return None
        return contents

    def _is_untouched(self, artifact: str, written: Mapping[str, list[object]]) -> bool:
        return all(fact[2:] == _facts(os.path.join(self._root, path)) for path, fact in written.items()) and (
            (len(written) == 1 and artifact in written) or _files_below(self._root, artifact) == written.keys()
        )

    @contextlib.contextmanager
    def staged(self, artifacts: Mapping[tuple[str, str], Iterable[DistFile]]) -> Iterator[Path]:
        """A directory to write some artifacts (each by its target and its path) to, which are put in place when the block ends. Nothing of it
        stays when it fails, or, later, when the process is killed. Their packages are not written until they are `complete`.
        """
        with self._staging_directory() as directory:
            yield directory
            for (target, artifact), files in artifacts.items():
                package = self._packages.setdefault(target, {"artifacts": {}})
                package.update(digest="", basis="")
                package["artifacts"].pop(artifact, None)
                self._changed = True
                _put_in_place(directory / artifact, Path(self._root, artifact), directory)
                package["artifacts"][artifact] = {
                    file.path: [file.sha256, file.is_executable, *(_facts(os.path.join(self._root, file.path)) or ())]
                    for file in files
                }

    def complete(self, package: DistPackage, artifacts: Iterable[str]) -> None:
        """All of the package's artifacts are in place, and these are all."""
        written = self._packages[package.target]["artifacts"]
        self._packages[package.target] = {
            "digest": package.digest.fingerprint,
            "basis": package.basis,
            "artifacts": {artifact: written[artifact] for artifact in artifacts},
        }
        self._changed = True

    @contextlib.contextmanager
    def _staging_directory(self) -> Iterator[Path]:
        parent = self._staging
        parent.mkdir(parents=True, exist_ok=True)
        os.makedirs(self._root, exist_ok=True)
        if os.stat(parent).st_dev != os.stat(self._root).st_dev:
            # Files can be moved within a file system only.
            parent = Path(self._root)
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
        packages = {target: package for target, package in self._packages.items() if self._is_there(package)}
        with tempfile.NamedTemporaryFile("w", dir=self._index.parent, prefix="index-", delete=False) as file:
            # Not json.dump, which is ten times slower.
            file.write(json.dumps({"version": _VERSION, "packages": packages}, separators=(",", ":")))
        os.replace(file.name, self._index)
        self._changed = False

    def _is_there(self, package: Mapping[str, Any]) -> bool:
        return any(os.path.lexists(os.path.join(self._root, artifact)) for artifact in package["artifacts"])

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            document = json.loads(self._index.read_bytes())
            return dict(document["packages"]) if document["version"] == _VERSION else {}
        except (OSError, ValueError, KeyError, TypeError):
            # As good as new: what is there is written again.
            return {}


def dist_state(work_directory: Path) -> Path:
    """Where Pants' work directory has what is remembered of `dist/`."""
    return work_directory / "unikernel" / "dist"


def _facts(path: str) -> list[object] | None:
    """What changes when a file does; None where there is none. Nobody can set the time of change (ctime)."""
    try:
        return _facts_of(os.lstat(path))
    except OSError:
        return None


def _facts_of(status: os.stat_result) -> list[object]:
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _files_below(root: str, artifact: str) -> set[str]:
    """What is at a path, or below it: paths below `root`."""
    place = os.path.join(root, artifact)
    if not os.path.isdir(place) or os.path.islink(place):
        return {artifact}
    found: set[str] = set()
    for directory, _, names in os.walk(place):
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
