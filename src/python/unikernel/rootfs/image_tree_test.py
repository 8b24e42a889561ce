from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from unikernel.errors import UnikernelError
from unikernel.rootfs.docker_archive import SavedLayer
from unikernel.rootfs.image_tree import ImageTree
from unikernel.testing.docker_archives import directory, hard_link, link, member, tar


def _tree(tmp_path: Path, *layers: list[tuple[tarfile.TarInfo, bytes]]) -> ImageTree:
    tree = ImageTree()
    for number, members in enumerate(layers, 1):
        content = tar(*members)
        file = tmp_path / f"{number}.tar"
        # It is a part of something larger.
        file.write_bytes(b"before" + content + b"behind")
        tree.apply(SavedLayer(file, 6, len(content), hashlib.sha256(content).hexdigest()), number, tmp_path, f"layer {number}")
    return tree


def _contents(tree: ImageTree) -> dict[str, Any]:
    """What is at each path: a file's content, a link's target, None for a directory."""
    contents: dict[str, Any] = {}
    for path, node in tree.entries():
        contents[path] = None
        if node.content is not None:
            with node.content.file.open("rb") as stream:
                stream.seek(node.content.start)
                contents[path] = stream.read(node.content.size)
        elif node.is_link:
            contents[path] = node.target
    return contents


def test_later_layers_replace_files_and_share_directories(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        [directory("etc", 0o700, uid=5), member("etc/a", b"old"), member("./etc/b", b"kept"), member("/etc/c", b"c")],
        [directory("etc/", 0o755, gid=6), member("etc/a", b"new", mode=0o4711, uid=1000, gid=1001)],
    )
    assert _contents(tree) == {"/etc": None, "/etc/a": b"new", "/etc/b": b"kept", "/etc/c": b"c"}
    nodes = dict(tree.entries())
    assert (nodes["/etc"].mode, nodes["/etc"].owner) == (stat.S_IFDIR | 0o755, (0, 6))
    assert (nodes["/etc/a"].mode, nodes["/etc/a"].owner) == (stat.S_IFREG | 0o4711, (1000, 1001))


def test_a_directory_that_no_layer_names_is_made(tmp_path: Path) -> None:
    nodes = dict(_tree(tmp_path, [member("a/b/c", b"")]).entries())
    assert (nodes["/a"].mode, nodes["/a/b"].mode) == (stat.S_IFDIR | 0o755, stat.S_IFDIR | 0o755)


def test_whiteouts_hide_what_is_below(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        [member("a/file", b""), member("a/tree/x/y", b""), member("a/kept", b""), link("a/link", "kept")],
        [member("a/.wh.file"), member("a/.wh.tree"), member("a/.wh.link"), member("a/.wh.never"), member("none/.wh.x")],
    )
    assert _contents(tree) == {"/a": None, "/a/kept": b"", "/none": None}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_whiteout_hides_nothing_of_its_own_layer(tmp_path: Path, is_first: bool) -> None:
    lower = [member("d/old", b""), member("d/sub/old", b""), member("f", b"old")]
    whiteouts = [member(".wh.d"), member(".wh.f")]
    own = [directory("d"), member("d/sub/new", b"new"), member("f", b"new")]
    tree = _tree(tmp_path, lower, [*whiteouts, *own] if is_first else [*own, *whiteouts])
    assert _contents(tree) == {"/d": None, "/d/sub": None, "/d/sub/new": b"new", "/f": b"new"}


@pytest.mark.parametrize("is_first", [True, False])
def test_an_opaque_directory_has_what_its_own_layer_has(tmp_path: Path, is_first: bool) -> None:
    lower = [member("d/old", b""), member("d/sub/old", b""), member("e", b"")]
    own = [member("d/sub/new", b"new"), member("d/new", b"new")]
    opaque = [member("d/.wh..wh..opq")]
    tree = _tree(tmp_path, lower, [directory("d"), *(opaque if is_first else []), *own, *([] if is_first else opaque)])
    assert _contents(tree) == {"/d": None, "/d/new": b"new", "/d/sub": None, "/d/sub/new": b"new", "/e": b""}


def test_a_whiteout_and_a_file_of_that_name_in_a_later_layer(tmp_path: Path) -> None:
    tree = _tree(tmp_path, [member("a", b"1")], [member(".wh.a")], [member("a", b"3")])
    assert _contents(tree) == {"/a": b"3"}


def test_what_aufs_keeps_for_itself_is_left_out(tmp_path: Path) -> None:
    tree = _tree(tmp_path, [directory(".wh..wh.plnk"), member(".wh..wh.plnk/1.2", b""), member(".wh..wh.aufs"), member("a", b"")])
    assert _contents(tree) == {"/a": b""}


def test_files_links_and_directories_take_each_others_place(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        [member("a/x", b""), member("b", b"file"), link("c", "a"), member("d/x", b"")],
        [member("a", b"file"), directory("b"), member("b/x", b"x"), directory("c"), member("c/x", b"x"), link("d", "b")],
    )
    assert _contents(tree) == {"/a": b"file", "/b": None, "/b/x": b"x", "/c": None, "/c/x": b"x", "/d": "b"}


def test_parents_are_followed_through_links(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        [directory("usr/lib"), link("lib", "usr/lib"), link("up", "usr/lib/../../../opt"), link("absolute", "/lib")],
        [member("lib/a", b"a"), member("up/b", b"b"), member("absolute/c", b"c"), member("lib/.wh.d")],
        [member("absolute/.wh.a")],
    )
    assert set(_contents(tree)) == {"/usr", "/usr/lib", "/lib", "/up", "/absolute", "/opt", "/opt/b", "/usr/lib/c"}
    assert tree.resolve("/absolute/c") == "/usr/lib/c"
    assert tree.resolve("/absolute/../c") is None and tree.resolve("/absolute/../lib/c") == "/usr/lib/c"
    assert tree.resolve("/usr/lib/c/") is None and tree.resolve("/lib/") == "/usr/lib" and tree.resolve("/..") == "/"


def test_hard_links_are_files_of_their_own(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        [member("a", b"one", mode=0o755, uid=7), link("s", "a"), directory("d"), link("e", "d")],
        [hard_link("b", "a"), hard_link("d/c", "./b"), hard_link("t", "s"), hard_link("e/f", "/d/c")],
        [member("a", b"two"), member(".wh.b")],
    )
    expected = {"/a": b"two", "/d": None, "/d/c": b"one", "/d/f": b"one", "/e": "d", "/s": "a", "/t": "a"}
    assert _contents(tree) == expected
    assert dict(tree.entries())["/d/c"].owner == (7, 0) and dict(tree.entries())["/d/c"].mode == stat.S_IFREG | 0o755


def test_a_whiteout_beside_a_hard_link_in_its_layer_hides_the_other_name_only(tmp_path: Path) -> None:
    # As `mv a b` may be recorded.
    tree = _tree(tmp_path, [member("a", b"one")], [hard_link("b", "a"), member(".wh.a")])
    assert _contents(tree) == {"/b": b"one"}


@pytest.mark.parametrize("target", ["none", "d", "../a", "a/b"])
def test_a_hard_link_to_no_file_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(UnikernelError, match="is a hard link to .*no file of the image|leads out of"):
        _tree(tmp_path, [directory("d"), member("a", b""), hard_link("b", target)])


def test_devices_pipes_and_attributes_are_known(tmp_path: Path) -> None:
    attribute = {"SCHILY.xattr.security.capability": "x"}
    tree = _tree(
        tmp_path,
        [
            member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            member("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660),
            member("pipe", type=tarfile.FIFOTYPE),
            member("ping", b"", pax_headers=attribute),
        ],
    )
    nodes = dict(tree.entries())
    assert (nodes["/null"].mode, nodes["/null"].device) == (stat.S_IFCHR | 0o666, (1, 3))
    assert (nodes["/disk"].mode, nodes["/disk"].device) == (stat.S_IFBLK | 0o660, (8, 1))
    assert stat.S_ISFIFO(nodes["/pipe"].mode)
    assert [path for path, node in nodes.items() if node.has_attributes] == ["/ping"]


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    odd = os.fsdecode(b"latin-\xe9")
    assert _contents(_tree(tmp_path, [member(odd, b"1"), link("link", odd)])) == {"/link": odd, f"/{odd}": b"1"}


def test_a_sparse_file_is_whole(tmp_path: Path) -> None:
    # GNU tar's format 1.0: a map, padded to a block, and the data that is there.
    content = b"2\n0\n3\n9\n0\n".ljust(512, b"\0") + b"abc"
    header = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "sparse", "GNU.sparse.realsize": "9"}
    tree = _tree(tmp_path, [member("GNUSparseFile.0/sparse", content, pax_headers=header), member("b", b"b")])
    assert _contents(tree) == {"/b": b"b", "/sparse": b"abc" + bytes(6)}


@pytest.mark.parametrize(
    ("members", "part"),
    [
        ([member("../a", b"")], "leads out of the root file system"),
        ([member("a", b""), member("a/b", b"")], "/a/b is below a, which is no directory"),
        ([link("a", "b"), link("b", "a"), member("a/c", b"")], "/a/c is below symbolic links that lead to each other"),
        ([member("/", b"")], "wants to replace the root directory"),
        ([member("d/" * 3000 + "a", b"")], "more than 4095 bytes"),
        ([link("a", "b" * 5000)], "more than 4095 bytes"),
        ([member("a", b"", type=b"Z")], "layer 1: /a is of the unknown type b'Z'"),
    ],
)
def test_what_cannot_be_applied_is_named(tmp_path: Path, members: Any, part: str) -> None:
    with pytest.raises(UnikernelError, match=part):
        _tree(tmp_path, members)


def test_paths_are_removed(tmp_path: Path) -> None:
    tree = _tree(tmp_path, [member("dev/null", b""), link("etc", "real"), member("real/hosts", b""), member("real/other", b"")])
    for path in ("/dev", "/etc/hosts", "/none/at/all", "/none"):
        tree.remove(path)
    assert _contents(tree) == {"/etc": "real", "/real": None, "/real/other": b""}
