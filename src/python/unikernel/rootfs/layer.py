"""A layer of a root file system: collected entry by entry, written as a cpio archive and an index of it in JSON."""

from __future__ import annotations

import io
import json
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Optional

from unikernel.blocks import HashingReader, HashingWriter, OwnPart
from unikernel.errors import UnikernelError
from unikernel.rootfs.cpio import LARGEST_FILE, ROOT, TRAILER, CpioWriter
from unikernel.sbom.component import Component

INDEX_VERSION = 1
# PATH_MAX: the kernel skips an entry with a longer name, or a link to one, without a word.
LONGEST_PATH = 4095
# NAME_MAX: no file system of Linux has a longer name.
_LONGEST_NAME = 255
# Of a path that an error shows.
_SHOWN = 100
# The last number stands for none: chown(2).
_LARGEST_ID = 2**32 - 2
# MKDEV in the kernel's include/linux/kdev_t.h: 12 bits of a device's number are the driver's.
_LARGEST_DEVICE = (2**12 - 1, 2**20 - 1)
# When the kernel unpacks a layer, a directory takes the mode of its last entry: also of one that is there only as a parent.
_PARENT_MODES = {"/root": 0o700, "/tmp": 0o1777, "/var/tmp": 0o1777}


@dataclass(frozen=True)
class IndexEntry:
    """One entry of a layer as its index has it. `path` is absolute; `sha256` is there for regular files; `owner` is (uid, gid), where that is not
    root.
    """

    path: str
    mode: int
    size: int = 0
    sha256: Optional[str] = None
    target: Optional[str] = None
    device: Optional[tuple[int, int]] = None
    owner: Optional[tuple[int, int]] = None


@dataclass
class LayerIndex:
    """What is known of a layer without opening its archive.

    `provides` are the shared libraries in it (soname -> path), `needs` those it needs from other layers (soname -> path of the file
    that needs it first), and `searched` the absolute directories that this file's RPATH and RUNPATH add to the search for it (soname
    -> {"rpath": [...], "runpath": [...]}). `programs` are interpreters that must exist (path -> who needs it). `tls` tells that
    something in the layer can speak TLS and will look for certificates. `components` are what an SBOM lists of it, as far as its files
    do not say that themselves. `facts` holds what the kind of layer has to say (start command, versions, ...).
    """

    name: str
    entries: list[IndexEntry]
    provides: dict[str, str] = field(default_factory=dict)
    needs: dict[str, str] = field(default_factory=dict)
    searched: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)
    tls: bool = False
    components: list[Component] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    archive_size: int = 0
    archive_sha256: str = ""

    def write(self, path: Path) -> None:
        document: dict[str, Any] = {"version": INDEX_VERSION, **asdict(self)}
        document["entries"] = [{key: value for key, value in asdict(entry).items() if value is not None} for entry in self.entries]
        document["components"] = [component.to_document() for component in self.components]
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> LayerIndex:
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, content: bytes, path: str) -> LayerIndex:
        """`path` says in an error where the content is from."""
        document = json.loads(content)
        version = document.pop("version", None)
        if version != INDEX_VERSION:
            raise UnikernelError(f"{path} is an index of version {version}; this toolkit reads version {INDEX_VERSION}.")
        entries = [_index_entry(entry) for entry in document.pop("entries")]
        components = [Component.of_document(component) for component in document.pop("components")]
        return cls(entries=entries, components=components, **document)


def _index_entry(document: Mapping[str, Any]) -> IndexEntry:
    pairs = {key: tuple(document[key]) for key in ("device", "owner") if key in document}
    return IndexEntry(**{**document, **pairs})


@dataclass(frozen=True)
class _Entry:
    """A regular file's content is `content`, or that of `source`, or the `part` of it: where that starts, and its size."""

    mode: int
    source: Optional[Path] = None
    content: Optional[bytes] = None
    device: tuple[int, int] = (0, 0)
    owner: tuple[int, int] = ROOT
    part: Optional[tuple[int, int]] = None

    def size(self) -> int:
        if self.content is not None:
            return len(self.content)
        if self.part is not None:
            return self.part[1]
        return self.source.stat().st_size if self.source is not None else 0

    def open(self) -> BinaryIO:
        if self.content is not None:
            return io.BytesIO(self.content)
        assert self.source is not None
        stream = self.source.open("rb")
        return stream if self.part is None else OwnPart(stream, *self.part)  # type: ignore[return-value]


def normalise(path: str) -> str:
    """An absolute, clean path inside the rootfs. Raises UnikernelError for one that leads out of it."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if ".." in path.split("/"):
        raise UnikernelError(f"The path {path!r} leads out of the root file system.")
    return clean


def readable(path: str) -> str:
    """A path for people: what is no text in it is escaped, and a long one shortened."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _check_name(path: str, entry: _Entry) -> None:
    """Raises UnikernelError for a name that the kernel would skip, stop at, or fail on."""
    longest = max(len(os.fsencode(path)), entry.size() if stat.S_ISLNK(entry.mode) else 0)
    if longest > LONGEST_PATH:
        raise UnikernelError(f"{readable(path)} is a path, or links to one, of more than {LONGEST_PATH} bytes.")
    if len(os.fsencode(posixpath.basename(path))) > _LONGEST_NAME:
        raise UnikernelError(f"{readable(path)} is a name of more than {_LONGEST_NAME} bytes, which no file can have.")
    if path == f"/{TRAILER}":
        raise UnikernelError(f"{path} is no name for a file: it would end the archive that the root file system is made of.")
    if "\0" in path or (stat.S_ISLNK(entry.mode) and b"\0" in (entry.content or b"")):
        raise UnikernelError(f"{readable(path)} is a name, or links to one, with a NUL character in it, which no file can have.")


def _with_parents(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = posixpath.dirname(path)


class Layer:
    """Entries by path. The archive has them sorted, each after its parents, whatever order they were added in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entries: dict[str, _Entry] = {}

    def __contains__(self, path: str) -> bool:
        return normalise(path) in self._entries

    def paths(self) -> Iterable[str]:
        return sorted(self._entries)

    def _add(self, path: str, entry: _Entry) -> None:
        clean = normalise(path)
        if clean == "/":
            if not stat.S_ISDIR(entry.mode):
                raise UnikernelError(f"An entry of the {self.name} layer wants to be the root directory.")
            return
        there = self._entries.get(clean)
        if there is not None and not (stat.S_ISDIR(there.mode) and stat.S_ISDIR(entry.mode)):
            raise UnikernelError(f"Two entries of the {self.name} layer want to be {clean}.")
        if entry.size() > LARGEST_FILE:
            raise UnikernelError(f"{clean} is larger than 4 GiB, which an initramfs cannot hold.")
        _check_name(clean, entry)
        if not all(0 <= number <= _LARGEST_ID for number in entry.owner):
            raise UnikernelError(f"{readable(clean)} belongs to {entry.owner[0]}:{entry.owner[1]}, which no user and group can be.")
        if not all(0 <= number <= largest for number, largest in zip(entry.device, _LARGEST_DEVICE)):
            raise UnikernelError(f"{readable(clean)} is the device {entry.device[0]}:{entry.device[1]}, which none can be.")
        parent = posixpath.dirname(clean)
        above = self._entries.get(parent)
        if above is not None and not stat.S_ISDIR(above.mode):
            raise UnikernelError(
                f"{clean} of the {self.name} layer is below {parent}, which is no directory but a link or a file: give it the path "
                "that it really has."
            )
        if parent != "/" and above is None:
            self._add(parent, _Entry(stat.S_IFDIR | _PARENT_MODES.get(parent, 0o755)))
        self._entries[clean] = entry

    def add_file(self, path: str, source: Path, mode: Optional[int] = None) -> None:
        """A regular file with the content of `source`; its mode is 0755 if the source is executable and 0644 if not, by default."""
        if mode is None:
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self._add(path, _Entry(stat.S_IFREG | mode, source=source))

    def add_part(self, path: str, source: Path, start: int, size: int, mode: int, owner: tuple[int, int] = ROOT) -> None:
        """A regular file with the `size` bytes of `source` from `start`: a member of an archive, which needs no copy."""
        self._add(path, _Entry(stat.S_IFREG | mode, source=source, part=(start, size), owner=owner))

    def add_bytes(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._add(path, _Entry(stat.S_IFREG | mode, content=content))

    def add_symlink(self, path: str, target: str, owner: tuple[int, int] = ROOT) -> None:
        self._add(path, _Entry(stat.S_IFLNK | 0o777, content=target.encode("utf-8", "surrogateescape"), owner=owner))

    def add_directory(self, path: str, mode: int = 0o755, owner: tuple[int, int] = ROOT) -> None:
        self._add(path, _Entry(stat.S_IFDIR | mode, owner=owner))

    def make_executable(self, path: str) -> None:
        """Lets everyone run a file that was added."""
        clean = normalise(path)
        self._entries[clean] = replace(self._entries[clean], mode=self._entries[clean].mode | 0o111)

    def add_character_device(self, path: str, major: int, minor: int, mode: int, owner: tuple[int, int] = ROOT) -> None:
        self._add(path, _Entry(stat.S_IFCHR | mode, device=(major, minor), owner=owner))

    def add_block_device(self, path: str, major: int, minor: int, mode: int, owner: tuple[int, int] = ROOT) -> None:
        self._add(path, _Entry(stat.S_IFBLK | mode, device=(major, minor), owner=owner))

    def leave_out(self, paths: Iterable[str]) -> None:
        """What is at the paths, and below them."""
        gone = {normalise(path) for path in paths}
        self._entries = {path: entry for path, entry in self._entries.items() if gone.isdisjoint(_with_parents(path))}

    def add_tree(self, prefix: str, root: Path) -> None:
        """Everything below a directory: files, links as they are, directories."""
        for directory, subdirectories, files in os.walk(root):
            subdirectories.sort()
            for name in [*subdirectories, *sorted(files)]:
                source = Path(directory, name)
                path = posixpath.join(prefix, str(source.relative_to(root)))
                if source.is_symlink():
                    self.add_symlink(path, os.readlink(source))
                elif source.is_dir():
                    self.add_directory(path)
                else:
                    self.add_file(path, source)

    def open(self, path: str) -> BinaryIO:
        """The content of a file that was added."""
        return self._entries[normalise(path)].open()

    def directories(self) -> list[str]:
        return [path for path in sorted(self._entries) if stat.S_ISDIR(self._entries[path].mode)]

    def regular_files(self) -> list[str]:
        return [path for path in sorted(self._entries) if stat.S_ISREG(self._entries[path].mode)]

    def symlink_target(self, path: str) -> Optional[str]:
        entry = self._entries.get(normalise(path))
        if entry is None or not stat.S_ISLNK(entry.mode):
            return None
        assert entry.content is not None
        return entry.content.decode("utf-8", "surrogateescape")

    def write(self, archive: Path, index: LayerIndex) -> None:
        """Writes `archive`, and the index beside it (`.json` for `.cpio`), completed with the entries and the archive's digest."""
        index.entries = []
        with archive.open("wb") as stream:
            hashing = HashingWriter(stream)
            writer = CpioWriter(hashing)  # type: ignore[arg-type]
            for path in sorted(self._entries):
                entry = self._entries[path]
                size = entry.size()
                with entry.open() if size else io.BytesIO() as content:
                    reader = HashingReader(content)
                    try:
                        writer.add(path[1:], entry.mode, reader, size, entry.device, entry.owner)  # type: ignore[arg-type]
                    except ValueError as error:
                        raise UnikernelError(f"{error}; run the build again.") from error
                is_file = stat.S_ISREG(entry.mode)
                index.entries.append(
                    IndexEntry(
                        path=path,
                        mode=entry.mode,
                        size=size if is_file else 0,
                        sha256=reader.sha256.hexdigest() if is_file else None,
                        target=self.symlink_target(path),
                        device=entry.device if stat.S_ISCHR(entry.mode) or stat.S_ISBLK(entry.mode) else None,
                        owner=entry.owner if entry.owner != ROOT else None,
                    )
                )
            writer.close()
        index.archive_size = hashing.size
        index.archive_sha256 = hashing.sha256.hexdigest()
        index.write(archive.with_suffix(".json"))
