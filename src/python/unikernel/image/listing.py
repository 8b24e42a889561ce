"""What `unikernel ls`, `extract` and `diff` show of an image's files."""

from __future__ import annotations

import difflib
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from unikernel.blocks import HashingWriter, copy_bytes
from unikernel.errors import UnikernelError
from unikernel.rootfs.layer import readable
from unikernel.rootfs.merge import MergedEntry, MergedRootfs

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


@dataclass(frozen=True)
class ListedFile:
    """`mode` is as in `st_mode`; `owner` is "UID:GID"; `target` is a symbolic link's; `layer` is the one that brings it."""

    path: str
    mode: int
    owner: str
    size: int
    layer: str
    target: str | None = None

    def to_text(self) -> str:
        arrow = f" -> {readable(self.target)}" if self.target is not None else ""
        return f"{stat.filemode(self.mode)} {self.owner:>9} {self.size:>10} {readable(self.path)}{arrow}"

    def to_document(self) -> dict[str, Any]:
        return {**asdict(self), "mode": f"{self.mode:o}"}


def list_files(rootfs: MergedRootfs, path: str = "/") -> list[ListedFile]:
    """The file at `path` (links are followed), or the directory with all that is below it. Raises UnikernelError when there is none."""
    found = _find(rootfs, path)
    below = found.rstrip("/") + "/"
    return [_listed(name, entry) for name, entry in rootfs.entries.items() if name == found or name.startswith(below)]


def _listed(path: str, entry: MergedEntry) -> ListedFile:
    size = 0 if stat.S_ISDIR(entry.mode) else entry.size
    return ListedFile(path, entry.mode, ":".join(map(str, entry.owner)), size, entry.layer, entry.target)


def _find(rootfs: MergedRootfs, path: str) -> str:
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        return clean
    found = rootfs.locate(clean)
    if found is None:
        names = [name for name in rootfs.entries if posixpath.basename(name) == posixpath.basename(clean)]
        near = names[:1] or difflib.get_close_matches(clean, rootfs.entries, 1)
        hint = f" Did you mean {readable(near[0])}?" if near else ""
        raise UnikernelError(f"There is no {readable(clean)} in the image.{hint}")
    return found


# --- extract ------------------------------------------------------------------------------------------------------


def copy_file(rootfs: MergedRootfs, path: str, output: BinaryIO) -> None:
    """The content of a regular file. Raises UnikernelError for all else."""
    entry = rootfs.entries.get(_find(rootfs, path))
    if entry is None or not stat.S_ISREG(entry.mode):
        raise UnikernelError(f"{path} is a directory: name one to write it to, with --output.")
    copy_bytes(entry.open(), output, entry.size)


def extract(rootfs: MergedRootfs, path: str, destination: Path) -> int:
    """Writes the file, or the directory with all that is below it, to `destination`, which is not there yet. Files are their maker's, and
    no program that they bring runs as somebody else. Returns how many entries there are.
    """
    if destination.exists():
        raise UnikernelError(f"{destination} is there already; name another path, or remove it.")
    found = _find(rootfs, path)
    listed = list_files(rootfs, found)
    if found != "/" and not stat.S_ISDIR(rootfs.entries[found].mode):
        rootfs.write_file(found, destination)
        return 1
    prefix = found.rstrip("/")
    part = {name[len(prefix) :]: rootfs.entries[name] for name in (file.path for file in listed) if name != found}
    destination.mkdir(parents=True)
    MergedRootfs(part).write_directory(destination)
    return len(part)


# --- diff ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """What is different about a file, or a field of the manifest; `before` or `after` is empty where there is none."""

    name: str
    before: str
    after: str

    def to_text(self) -> str:
        """Digests are cut short: they are for telling things apart."""
        before, after = (_DIGEST.sub(r"\1", text) for text in (self.before, self.after))
        if not before:
            return f"+ {self.name}  {after}"
        if not after:
            return f"- {self.name}  {before}"
        return f"~ {self.name}  {before} -> {after}"


def changed_files(one: MergedRootfs, other: MergedRootfs) -> Iterator[Change]:
    """By path. Files are compared by mode, owner, target and content."""
    for path in sorted({*one.entries, *other.entries}):
        before, after = one.entries.get(path), other.entries.get(path)
        told = [_told(before), _told(after)]
        if told[0] == told[1] and before is not None and after is not None:
            digests = [_sha256(entry) for entry in (before, after)]
            if before.mode == after.mode and digests[0] == digests[1]:
                continue
            told = [f"{text}, SHA-256 {digest[:12]}" for text, digest in zip(told, digests)]
        yield Change(readable(path), *told)


def _told(entry: MergedEntry | None) -> str:
    if entry is None:
        return ""
    owner = "" if entry.owner == (0, 0) else f" {entry.owner[0]}:{entry.owner[1]}"
    if entry.target is not None:
        return f"link to {readable(entry.target)}{owner}"
    mode = stat.filemode(entry.mode)
    return f"{mode}{owner}" if stat.S_ISDIR(entry.mode) else f"{mode}{owner} {entry.size} bytes"


def _sha256(entry: MergedEntry) -> str:
    hashing = HashingWriter()
    copy_bytes(entry.open(), hashing, entry.size)
    return hashing.sha256.hexdigest()


def changed_fields(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[Change]:
    """Of two manifests as documents (JSON): lists of named things (layers, inputs, tools) are compared by name."""
    for key in [*one, *(key for key in other if key not in one)]:
        before, after = _by_name(one.get(key)), _by_name(other.get(key))
        if before == after:
            continue
        if isinstance(before, Mapping) or isinstance(after, Mapping):
            yield from changed_fields(before or {}, after or {}, f"{prefix}{key}.")
        else:
            yield Change(f"{prefix}{key}", _value(before), _value(after))


def _by_name(value: Any) -> Any:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return value
    if not all(isinstance(item, Mapping) and "name" in item for item in value):
        return value
    return {item["name"]: {key: content for key, content in item.items() if key != "name"} for item in value}


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {content}" for key, content in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{'; '.join(map(_value, value))}]"
    return "" if value is None else str(value)
