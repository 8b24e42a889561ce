from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Callable

import pytest

from unikernel.errors import UnikernelError
from unikernel.rootfs.cpio import read_cpio
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.merge import merged_rootfs


def _archive(tmp_path: Path, name: str, fill: Callable[[Layer], None]) -> Path:
    layer = Layer(name)
    fill(layer)
    path = tmp_path / f"{name}.cpio"
    layer.write(path, LayerIndex(name, []))
    return path


def _base(layer: Layer) -> None:
    layer.add_bytes("/etc/a", b"base")
    layer.add_bytes("/etc/b", b"kept")
    layer.add_directory("/tmp", 0o1777)
    layer.add_symlink("/lib", "usr/lib")
    layer.add_directory("/usr/lib")
    layer.add_character_device("/dev/console", 5, 1, 0o600)


def _above(layer: Layer) -> None:
    layer.add_bytes("/etc/a", b"above", 0o755)
    layer.add_bytes("/lib/x", b"x" * 5000)
    layer.add_symlink("/bin/x", "/lib/x")


def _archives(tmp_path: Path) -> list[Path]:
    # An archive has parents, and /lib would be one of them: as an interpreter's libraries are laid out by the path that links name.
    above = Layer("above")
    _above(above)
    del above._entries["/lib"]
    path = tmp_path / "above.cpio"
    above.write(path, LayerIndex("above", []))
    return [_archive(tmp_path, "base", _base), path]


def test_a_later_layer_replaces_files_and_follows_links(tmp_path: Path) -> None:
    with merged_rootfs(_archives(tmp_path)) as rootfs:
        assert list(rootfs.entries) == [
            *("/bin", "/bin/x", "/dev", "/etc", "/etc/a", "/etc/b", "/lib", "/tmp", "/usr", "/usr/lib", "/usr/lib/x")
        ]
        assert rootfs.entries["/etc/a"].open().read() == b"above"
        assert rootfs.entries["/usr/lib/x"].size == 5000
        assert rootfs.resolve("/bin/x") == "/usr/lib/x"
        with pytest.raises(UnikernelError, match="/bin/y is no file"):
            rootfs.resolve("/bin/y")


def test_one_archive_of_all(tmp_path: Path) -> None:
    with merged_rootfs(_archives(tmp_path)) as rootfs:
        rootfs.write_cpio(tmp_path / "all.cpio")
    with (tmp_path / "all.cpio").open("rb") as stream:
        entries = {entry.path: (entry.mode, content) for entry, content in read_cpio(stream)}
    assert entries["etc/a"] == (stat.S_IFREG | 0o755, b"above")
    assert entries["bin/x"] == (stat.S_IFLNK | 0o777, b"/lib/x")
    assert entries["tmp"][0] == stat.S_IFDIR | 0o1777
    # Nothing in it is padded to pages.
    assert (tmp_path / "all.cpio").stat().st_size < 5000 + 16 * 150


def test_one_directory_of_all(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with merged_rootfs(_archives(tmp_path)) as rootfs:
        rootfs.write_directory(root)
    assert (root / "etc/a").read_bytes() == b"above" and os.access(root / "etc/a", os.X_OK)
    assert os.readlink(root / "lib") == "usr/lib"
    assert (root / "lib/x").read_bytes() == b"x" * 5000
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert {path.lstat().st_mtime for path in root.rglob("*")} == {315532800}


def test_a_directory_stays_one(tmp_path: Path) -> None:
    base = _archive(tmp_path, "base", _base)
    above = _archive(tmp_path, "above", lambda layer: layer.add_bytes("/etc", b"a file"))
    with pytest.raises(UnikernelError, match="/etc is no directory in the above layer"), merged_rootfs([base, above]):
        pass


def test_an_empty_directory_gives_way(tmp_path: Path) -> None:
    base = _archive(tmp_path, "base", _base)
    above = _archive(tmp_path, "above", lambda layer: layer.add_symlink("/tmp", "var/tmp"))
    with merged_rootfs([base, above]) as rootfs:
        assert rootfs.entries["/tmp"].target == "var/tmp"


def test_a_link_to_a_directory_stays_where_a_later_layer_has_a_directory(tmp_path: Path) -> None:
    def fill(layer: Layer) -> None:
        layer.add_bytes("/lib/y", b"y")
        layer.add_bytes("/away/z", b"z")

    def links(layer: Layer) -> None:
        layer.add_symlink("/away", "/nowhere")
        layer.add_symlink("/loop", "loop")

    archives = [_archive(tmp_path, "base", _base), _archive(tmp_path, "links", links), _archive(tmp_path, "above", fill)]
    with merged_rootfs(archives) as rootfs:
        assert rootfs.entries["/lib"].target == "usr/lib"
        assert rootfs.entries["/usr/lib/y"].open().read() == b"y"
        # There is nothing that this one leads to.
        assert rootfs.entries["/away"].target is None and "/away/z" in rootfs.entries


def test_owners_are_the_last_ones(tmp_path: Path) -> None:
    def owned(layer: Layer) -> None:
        layer.add_directory("/home", 0o700, (1000, 1000))
        layer.add_symlink("/home/link", "/etc", (1000, 1000))
        layer.add_directory("/home/other", 0o750, (1000, 1000))
        layer.add_part("/etc/a", tmp_path / "owned", 0, 1, 0o640, (0, 5))

    def parent(layer: Layer) -> None:
        layer.add_bytes("/home/file", b"")
        layer.add_directory("/home/other", 0o770, (0, 1001))

    (tmp_path / "owned").write_bytes(b"a")
    archives = [_archive(tmp_path, name, fill) for name, fill in (("base", _base), ("owned", owned), ("parent", parent))]
    with merged_rootfs(archives) as rootfs:
        rootfs.write_cpio(tmp_path / "all.cpio")
    with (tmp_path / "all.cpio").open("rb") as stream:
        entries = {entry.path: (stat.S_IMODE(entry.mode), entry.owner) for entry, _ in read_cpio(stream)}
    # It is only the parent of a file there.
    assert entries["home"] == (0o700, (1000, 1000))
    assert entries["home/other"] == (0o770, (0, 1001))
    assert entries["home/file"] == (0o644, (0, 0))
    assert entries["home/link"] == (0o777, (1000, 1000))
    assert (entries["etc"], entries["etc/a"]) == ((0o755, (0, 0)), (0o640, (0, 5)))


def test_links_that_lead_to_each_other_are_refused(tmp_path: Path) -> None:
    def fill(layer: Layer) -> None:
        layer.add_symlink("/a", "b")
        layer.add_symlink("/b", "a")

    def below(layer: Layer) -> None:
        layer.add_bytes("/a/file", b"")
        del layer._entries["/a"]

    archives = [_archive(tmp_path, "links", fill), _archive(tmp_path, "below", below)]
    with pytest.raises(UnikernelError, match="links that lead to each other"), merged_rootfs(archives):
        pass
