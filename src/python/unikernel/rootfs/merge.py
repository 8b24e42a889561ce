"""Makes one root file system of several layers, as a kernel does that unpacks them one after another, for those that do not."""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from unikernel.blocks import Part
from unikernel.errors import UnikernelError
from unikernel.rootfs.cpio import MODIFICATION_TIME, ROOT, CpioEntry, CpioWriter, scan_cpio

_MOST_LINKS = 40
_TIMES = (MODIFICATION_TIME, MODIFICATION_TIME)


@dataclass(frozen=True)
class MergedEntry:
    """The content starts at `start` of an open archive, that of the layer `layer`. `target` is a symbolic link's, `owner` is
    (uid, gid).
    """

    mode: int
    size: int
    start: int
    archive: BinaryIO
    layer: str
    target: str | None = None
    owner: tuple[int, int] = ROOT

    def open(self) -> BinaryIO:
        """The content. The archive is shared: one at a time."""
        return Part(self.archive, self.start, self.size)  # type: ignore[return-value]


class MergedRootfs:
    """Entries by absolute path, sorted, each after its directory. Device nodes are left out: every library OS has its own."""

    def __init__(self, entries: dict[str, MergedEntry]) -> None:
        self.entries = entries

    def resolve(self, path: str) -> str:
        """The path of the file that `path` leads to. Raises UnikernelError when there is none."""
        path, entry = _follow(self.entries, path)
        if entry is None or not stat.S_ISREG(entry.mode):
            raise UnikernelError(f"{path} is no file of the root file system.")
        return path

    def locate(self, path: str) -> str | None:
        """The path that `path`, of a file or directory, leads to through links; None when it leads nowhere."""
        path, entry = _follow(self.entries, path)
        return path if path == "/" or entry is not None else None

    def write_cpio(self, path: Path) -> None:
        """An archive as other readers than Linux's expect it: nothing is padded to pages."""
        with path.open("wb") as stream:
            writer = CpioWriter(stream, aligned=False)
            for name, entry in self.entries.items():
                writer.add(name[1:], entry.mode, entry.open(), entry.size, owner=entry.owner)
            writer.close()

    def write_file(self, path: str, destination: Path) -> None:
        entry = self.entries[path]
        with destination.open("wb") as stream:
            shutil.copyfileobj(entry.open(), stream, 1 << 20)
        destination.chmod(entry.mode & 0o777)
        os.utime(destination, _TIMES)

    def write_directory(self, root: Path) -> None:
        """As files, links and directories below `root`. They are their maker's: only root could give them to their owners."""
        for path, entry in self.entries.items():
            destination = root / path[1:]
            if stat.S_ISDIR(entry.mode):
                destination.mkdir(exist_ok=True)
            elif entry.target is not None:
                os.symlink(entry.target, destination)
                os.utime(destination, _TIMES, follow_symlinks=False)
            else:
                self.write_file(path, destination)
        # Last: a directory that may not be written to has been filled by now.
        for path, entry in reversed(list(self.entries.items())):
            if stat.S_ISDIR(entry.mode):
                (root / path[1:]).chmod(entry.mode & 0o7777)
                os.utime(root / path[1:], _TIMES)


@contextmanager
def merged_rootfs(archives: Sequence[Path]) -> Iterator[MergedRootfs]:
    """A later layer replaces files of an earlier one. A directory has the mode of its last entry, and the owner of its last one that has
    any but root; it replaces no link to a directory.

    Raises UnikernelError when a layer has a file or a link where an earlier one has a directory with something in it.
    """
    with ExitStack() as stack:
        yield merge_archives((archive.stem, stack.enter_context(archive.open("rb"))) for archive in archives)


def merge_archives(archives: Iterable[tuple[str, BinaryIO]]) -> MergedRootfs:
    """As `merged_rootfs`, of layers by name, each in a stream that is where its archive starts. Streams stay open, and may be one."""
    entries: dict[str, MergedEntry] = {}
    for layer, stream in archives:
        for entry, start in scan_cpio(stream):
            if not (stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode) or stat.S_ISLNK(entry.mode)):
                continue
            target = None
            if stat.S_ISLNK(entry.mode):
                stream.seek(start)
                target = stream.read(entry.size).decode("utf-8", "surrogateescape")
            path = _through_links(entries, "/" + entry.path)
            there = entries.get(path)
            if there is not None and stat.S_ISDIR(entry.mode) and _stays(entries, path, there, entry):
                continue
            _check_kind(entries, entry.mode, path, layer)
            entries[path] = MergedEntry(entry.mode, entry.size, start, stream, layer, target, entry.owner)
    return MergedRootfs(dict(sorted(entries.items(), key=lambda item: item[0].split("/"))))


def _stays(entries: dict[str, MergedEntry], path: str, there: MergedEntry, entry: CpioEntry) -> bool:
    """Whether what is at `path` is the directory that a later layer has there, which may name it only as a parent of its files: a link
    to a directory, or a directory with an owner.
    """
    if stat.S_ISDIR(there.mode):
        return there.owner != ROOT and entry.owner == ROOT
    if there.target is None:
        return False
    path, found = _follow(entries, path)
    return path == "/" or (found is not None and stat.S_ISDIR(found.mode))


def _check_kind(entries: dict[str, MergedEntry], mode: int, path: str, layer: str) -> None:
    there = entries.get(path)
    if there is None or not stat.S_ISDIR(there.mode) or stat.S_ISDIR(mode):
        return
    if any(other.startswith(f"{path}/") for other in entries):
        raise UnikernelError(f"{path} is no directory in the {layer} layer, and one in a layer below it: they do not go together.")


def _follow(entries: dict[str, MergedEntry], path: str) -> tuple[str, MergedEntry | None]:
    """Where `path` leads to, and what is there, which is no link: None where there is nothing, or links lead to each other."""
    for _ in range(_MOST_LINKS):
        path = _through_links(entries, path)
        entry = entries.get(path)
        if entry is None or entry.target is None:
            return path, entry
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.target))
    return path, None


def _through_links(entries: dict[str, MergedEntry], path: str) -> str:
    """`path` with the symbolic links on the way to it followed, as who unpacks the later layer meets them."""
    for _ in range(_MOST_LINKS):
        parts = path.strip("/").split("/")
        for count in range(1, len(parts)):
            prefix = "/" + "/".join(parts[:count])
            above = entries.get(prefix)
            if above is not None and above.target is not None:
                path = posixpath.normpath(posixpath.join(posixpath.dirname(prefix), above.target, *parts[count:]))
                break
        else:
            return path
    raise UnikernelError(f"{path} is below symbolic links that lead to each other.")
