"""The root file system of a container image: its layers, one applied after another.

Specification: https://github.com/opencontainers/image-spec (v1.1), layer.md. Where that leaves something open, it is done as Docker does
(UnpackLayer in github.com/moby/moby, pkg/archive/diff.go).
"""

from __future__ import annotations

import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unikernel.errors import UnikernelError
from unikernel.rootfs.cpio import LARGEST_FILE, ROOT
from unikernel.rootfs.docker_archive import SavedLayer, damage_is_an_error, layer_members
from unikernel.rootfs.layer import LONGEST_PATH, normalise, readable

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# A PAX header for each extended attribute has its name after this.
_ATTRIBUTE = "SCHILY.xattr."
_MOST_LINKS = 40


@dataclass(frozen=True)
class Content:
    """The `size` bytes of a file from `start`."""

    file: Path
    start: int
    size: int


@dataclass
class Node:
    """`layer` is the number of the last layer that has it. `content` is a regular file's, `target` a link's, `device` (major, minor) a
    node's; `has_attributes` tells of extended ones.
    """

    mode: int
    layer: int
    owner: tuple[int, int] = ROOT
    content: Content | None = None
    target: str = ""
    device: tuple[int, int] = (0, 0)
    has_attributes: bool = False
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


class ImageTree:
    def __init__(self) -> None:
        self.root = _directory(0)

    # --- making it ------------------------------------------------------------------------------------------------

    def apply(self, layer: SavedLayer, number: int, scratch: Path, what: str) -> None:
        """Applies an uncompressed layer. Layers count from 1. Raises UnikernelError for one that is damaged, or cannot be applied."""
        for count, (archive, member) in enumerate(layer_members(layer, what)):
            if member.issparse():
                # Its content has holes, which the archive does not have.
                content = _sparse_content(archive, member, scratch / f"sparse-{number}-{count}", what)
            else:
                content = Content(layer.file, layer.start + member.offset_data, member.size)
            self._apply_member(member, content, number, what)

    def _apply_member(self, member: tarfile.TarInfo, content: Content, number: int, what: str) -> None:
        path = normalise(member.name)
        if max(len(path), len(member.linkname)) > LONGEST_PATH:
            raise UnikernelError(f"{readable(path)} is a path, or links to one, of more than {LONGEST_PATH} bytes.")
        *parents, name = path[1:].split("/")
        if not name:
            if not member.isdir():
                raise UnikernelError(f"{what} wants to replace the root directory.")
            return
        if any(parent.startswith(_WHITEOUT) for parent in parents):
            # What AUFS keeps for itself.
            return
        directory = self.make_directory(parents, number, path)
        if name == _OPAQUE:
            for below in tuple(directory.children):
                _remove_lower(directory, below, number)
        elif name.startswith(_WHITEOUT):
            _remove_lower(directory, name[len(_WHITEOUT) :], number)
        else:
            self._add(directory, name, self._node(member, content, number, path, what))

    def _node(self, member: tarfile.TarInfo, content: Content, number: int, path: str, what: str) -> Node:
        if member.islnk():
            target = self.find(normalise(member.linkname), follow=False)
            if target is None or target.is_directory:
                raise UnikernelError(
                    f"{what}: {readable(path)} is a hard link to {readable(member.linkname)}, which is no file of the image."
                )
            return replace(target, layer=number)
        node = Node(
            _kind(member, path, what) | member.mode & 0o7777,
            number,
            (member.uid, member.gid),
            has_attributes=any(name.startswith(_ATTRIBUTE) for name in member.pax_headers),
        )
        if member.isreg():
            node.content = content
        elif member.issym():
            node.target = member.linkname
        elif member.ischr() or member.isblk():
            node.device = (member.devmajor, member.devminor)
        return node

    def _add(self, directory: Node, name: str, node: Node) -> None:
        there = directory.children.get(name)
        if there is not None and there.is_directory and node.is_directory:
            node.children = there.children
        directory.children[name] = node

    def make_directory(self, parts: Sequence[str], number: int, path: str) -> Node:
        """The directory that the names lead to, through links, with what is not there yet. `path` says in an error what it is for."""
        stack, pending, links = [self.root], list(reversed(parts)), 0
        while pending:
            name = pending.pop()
            if name in ("", ".", ".."):
                del stack[max(len(stack) - (name == ".."), 1) :]
                continue
            child = stack[-1].children.setdefault(name, _directory(number))
            if child.is_link:
                links += 1
                if links > _MOST_LINKS:
                    raise UnikernelError(f"{readable(path)} is below symbolic links that lead to each other.")
                pending += reversed(child.target.split("/"))
                stack = stack[:1] if child.target.startswith("/") else stack
            elif child.is_directory:
                child.layer = number
                stack.append(child)
            else:
                raise UnikernelError(f"{readable(path)} is below {readable(name)}, which is no directory.")
        return stack[-1]

    def remove(self, path: str) -> None:
        """What is at a path, and below it, if there is something."""
        *parents, name = path[1:].split("/")
        directory = self.find("/" + "/".join(parents))
        if directory is not None:
            directory.children.pop(name, None)

    # --- reading it -----------------------------------------------------------------------------------------------

    def find(self, path: str, *, follow: bool = True) -> Node | None:
        """What is at an absolute path. Without `follow`, links are followed on the way only."""
        found = self._walk(path, follow)
        return found[1] if found is not None else None

    def resolve(self, path: str) -> str | None:
        """The path without links of what is at a path."""
        found = self._walk(path, True)
        return found[0] if found is not None else None

    def _walk(self, path: str, follow: bool) -> tuple[str, Node] | None:
        stack, names = [self.root], [""]
        pending, links = list(reversed(path.split("/"))), 0
        while pending:
            name = pending.pop()
            if name in ("", ".", ".."):
                if not stack[-1].is_directory:
                    return None
                keep = max(len(stack) - (name == ".."), 1)
                del stack[keep:], names[keep:]
                continue
            child = stack[-1].children.get(name)
            if child is None:
                return None
            if child.is_link and (pending or follow):
                links += 1
                if links > _MOST_LINKS:
                    return None
                pending += reversed(child.target.split("/"))
                if child.target.startswith("/"):
                    del stack[1:], names[1:]
                continue
            stack.append(child)
            names.append(name)
        return "/".join(names) or "/", stack[-1]

    def entries(self) -> Iterator[tuple[str, Node]]:
        """All but the root directory, sorted, each after its directory."""
        pending = _below("", self.root)
        while pending:
            path, node = pending.pop()
            yield path, node
            pending += _below(path, node)


def _below(path: str, node: Node) -> list[tuple[str, Node]]:
    return [(f"{path}/{name}", child) for name, child in sorted(node.children.items(), reverse=True)]


def _directory(number: int) -> Node:
    return Node(stat.S_IFDIR | 0o755, number)


def _kind(member: tarfile.TarInfo, path: str, what: str) -> int:
    kinds: Iterable[tuple[bool, int]] = (
        (member.isreg(), stat.S_IFREG),
        (member.isdir(), stat.S_IFDIR),
        (member.issym(), stat.S_IFLNK),
        (member.ischr(), stat.S_IFCHR),
        (member.isblk(), stat.S_IFBLK),
        (member.isfifo(), stat.S_IFIFO),
    )
    for is_it, kind in kinds:
        if is_it:
            return kind
    raise UnikernelError(f"{what}: {readable(path)} is of the unknown type {member.type!r}.")


def _sparse_content(archive: tarfile.TarFile, member: tarfile.TarInfo, copy: Path, what: str) -> Content:
    if member.size > LARGEST_FILE:
        raise UnikernelError(f"{readable(member.name)} is larger than 4 GiB, which an initramfs cannot hold.")
    with damage_is_an_error(what):
        content = archive.extractfile(member)
        assert content is not None
        with content, copy.open("wb") as stream:
            shutil.copyfileobj(content, stream, 1 << 20)
    return Content(copy, 0, member.size)


def _remove_lower(directory: Node, name: str, number: int) -> None:
    """What layers below have there. What the layer itself has stays, wherever in it the whiteout is."""
    pending = [(directory, name)]
    while pending:
        directory, name = pending.pop()
        node = directory.children.get(name)
        if node is None:
            continue
        if node.layer != number:
            del directory.children[name]
        else:
            pending += [(node, below) for below in node.children]
