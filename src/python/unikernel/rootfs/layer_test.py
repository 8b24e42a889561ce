from __future__ import annotations

import hashlib
import itertools
import json
import os
import stat
from pathlib import Path
from typing import IO, Any, Callable

import pytest

from unikernel.errors import UnikernelError
from unikernel.rootfs.cpio import read_cpio_bytes
from unikernel.rootfs.layer import INDEX_VERSION, Layer, LayerIndex, normalise, readable


def _write(layer: Layer, directory: Path, name: str = "layer") -> tuple[bytes, LayerIndex]:
    archive = directory / f"{name}.cpio"
    index = LayerIndex(layer.name, [])
    layer.write(archive, index)
    return archive.read_bytes(), index


def _source(directory: Path, content: bytes) -> Path:
    (directory / "source").write_bytes(content)
    return directory / "source"


def _modes(layer: Layer, directory: Path) -> dict[str, int]:
    return {entry.path: entry.mode for entry, _ in read_cpio_bytes(_write(layer, directory)[0])}


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("a", "/a"),
        ("/a/b", "/a/b"),
        ("./a//b/", "/a/b"),
        ("//a", "/a"),
        ("///a/./b", "/a/b"),
        ("a..b/...", "/a..b/..."),
        (".", "/"),
        ("", "/"),
    ],
)
def test_paths_are_made_absolute_and_clean(path: str, clean: str) -> None:
    assert normalise(path) == clean


@pytest.mark.parametrize("path", ["..", "../etc/passwd", "/../etc", "a/../../b", "a/.."])
def test_paths_that_lead_out_are_refused(path: str) -> None:
    with pytest.raises(UnikernelError, match="leads out of the root file system"):
        normalise(path)
    with pytest.raises(UnikernelError):
        Layer("x").add_bytes(path, b"")


def test_parents_come_before_their_children_whatever_the_order_of_insertion(tmp_path: Path) -> None:
    adders: list[Callable[[Layer], None]] = [
        lambda layer: layer.add_bytes("/usr/lib/b", b"b"),
        lambda layer: layer.add_bytes("usr/lib/a", b"a", 0o600),
        lambda layer: layer.add_directory("/usr/lib", 0o711),
        lambda layer: layer.add_symlink("/usr/lib64", "lib"),
        lambda layer: layer.add_character_device("/dev/null", 1, 3, 0o666),
    ]
    written = set()
    for order in itertools.permutations(adders):
        layer = Layer("x")
        for add in order:
            add(layer)
        archive, index = _write(layer, tmp_path)
        written.add((archive, (tmp_path / "layer.json").read_bytes()))
    assert len(written) == 1
    paths = [entry.path for entry, _ in read_cpio_bytes(archive)]
    assert paths == ["dev", "dev/null", "usr", "usr/lib", "usr/lib/a", "usr/lib/b", "usr/lib64"]
    assert _modes(layer, tmp_path)["usr/lib"] == stat.S_IFDIR | 0o711
    assert _modes(layer, tmp_path)["usr"] == stat.S_IFDIR | 0o755


def test_an_implicit_parent_keeps_the_modes_of_temporary_directories(tmp_path: Path) -> None:
    # The kernel sets a directory's mode again for each layer that has it.
    layer = Layer("files")
    layer.add_bytes("/tmp/a", b"")
    layer.add_bytes("/var/tmp/a", b"")
    layer.add_bytes("/root/.netrc", b"")
    modes = _modes(layer, tmp_path)
    assert (modes["tmp"], modes["var/tmp"], modes["root"]) == tuple(stat.S_IFDIR | mode for mode in (0o1777, 0o1777, 0o700))
    assert modes["var"] == stat.S_IFDIR | 0o755


def test_two_entries_at_one_path_are_refused() -> None:
    layer = Layer("files")
    layer.add_bytes("/etc/motd", b"one")
    with pytest.raises(UnikernelError, match="Two entries of the files layer want to be /etc/motd"):
        layer.add_bytes("etc//motd", b"one")
    with pytest.raises(UnikernelError, match="want to be /etc"):
        layer.add_symlink("/etc", "usr/etc")
    with pytest.raises(UnikernelError, match="want to be /etc/motd"):
        layer.add_directory("/etc/motd")


@pytest.mark.parametrize("above", ["file", "symlink"])
def test_nothing_can_be_below_what_is_no_directory(above: str) -> None:
    # The kernel would drop it without a word, or follow a link to a directory that is not there yet.
    layer = Layer("files")
    if above == "file":
        layer.add_bytes("/lib", b"")
    else:
        layer.add_symlink("/lib", "usr/lib")
    with pytest.raises(UnikernelError, match="/lib/x of the files layer is below /lib"):
        layer.add_bytes("/lib/x/y", b"")
    assert list(layer.paths()) == ["/lib"]


def test_the_root_directory_is_no_entry(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_directory("./")
    assert _write(layer, tmp_path)[1].entries == []
    with pytest.raises(UnikernelError, match="root directory"):
        layer.add_bytes("/", b"")


def test_paths_that_the_kernel_would_skip_are_refused() -> None:
    layer = Layer("x")
    layer.add_bytes("/" + f"{'d' * 249}/" * 16 + "x" * 94, b"")
    with pytest.raises(UnikernelError, match="more than 4095 bytes"):
        layer.add_bytes("/" + f"{'é' * 124}/" * 16 + "x" * 111, b"")
    with pytest.raises(UnikernelError, match="more than 4095 bytes"):
        layer.add_symlink("/a", "b" * 4096)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("TRAILER!!!", "would end the archive"),
        ("TRAILER!!!/a", "would end the archive"),
        ("a/" + "b" * 256, "more than 255 bytes"),
        ("a\0b", r"/a\\x00b is a name.*NUL"),
    ],
)
def test_names_that_cannot_be_laid_out_are_refused(path: str, part: str) -> None:
    with pytest.raises(UnikernelError, match=part):
        Layer("x").add_bytes(path, b"")


def test_names_that_only_look_like_those_are_taken() -> None:
    layer = Layer("x")
    for path in ("/a/TRAILER!!!", "/TRAILER!!!!", "/a/" + "b" * 255):
        layer.add_bytes(path, b"")
    assert len(layer.regular_files()) == 3


def test_a_path_is_readable_whatever_is_in_it() -> None:
    assert readable("/grüße/日本") == "/grüße/日本"
    assert readable(os.fsdecode(b"/latin-\xe9\n\x1b[1m")) == "/latin-\\xe9\\n\\x1b[1m"
    assert readable("/" + "a" * 200) == "/" + "a" * 99 + "..."


def test_the_mode_of_a_file_is_that_of_the_source_reduced_to_executable_or_not(tmp_path: Path) -> None:
    plain, program = tmp_path / "plain", tmp_path / "program"
    for path, mode in ((plain, 0o640), (program, 0o750)):
        path.write_text("x")
        path.chmod(mode)
    layer = Layer("x")
    layer.add_file("/plain", plain)
    layer.add_file("/program", program)
    layer.add_file("/set", plain, 0o4711)
    assert _modes(layer, tmp_path) == {
        "plain": stat.S_IFREG | 0o644,
        "program": stat.S_IFREG | 0o755,
        "set": stat.S_IFREG | 0o4711,
    }


def test_a_file_can_be_made_executable_afterwards(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_bytes("/a", b"", 0o600)
    layer.make_executable("/a")
    assert _modes(layer, tmp_path)["a"] == stat.S_IFREG | 0o711


def test_a_tree_is_added_with_links_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "bin/tool").write_text("#!/bin/sh\n")
    (root / "bin/tool").chmod(0o755)
    (root / "bin/alias").symlink_to("tool")
    (root / "linked").symlink_to("bin", target_is_directory=True)
    (root / "dangling").symlink_to("/nowhere")
    layer = Layer("x")
    layer.add_tree("/opt/app", root)
    contents = {entry.path: content for entry, content in read_cpio_bytes(_write(layer, tmp_path)[0])}
    assert contents == {
        "opt": b"",
        "opt/app": b"",
        "opt/app/bin": b"",
        "opt/app/bin/alias": b"tool",
        "opt/app/bin/tool": b"#!/bin/sh\n",
        "opt/app/dangling": b"/nowhere",
        "opt/app/empty": b"",
        "opt/app/linked": b"bin",
    }
    assert layer.symlink_target("/opt/app/linked") == "bin"
    assert layer.symlink_target("/opt/app/bin/tool") is None
    assert layer.symlink_target("/nothing") is None
    assert layer.regular_files() == ["/opt/app/bin/tool"]
    with layer.open("opt/app/bin/tool") as stream:
        assert stream.read() == b"#!/bin/sh\n"


def test_the_index_describes_the_archive_and_survives_a_round_trip(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_bytes("/a", b"content", 0o600)
    layer.add_symlink("/b", "a")
    layer.add_character_device("/dev/console", 5, 1, 0o600)
    odd = os.fsdecode(b"/latin-\xe9")
    layer.add_bytes(odd, b"")
    index = LayerIndex(
        "x",
        [],
        provides={"liba.so": "/a"},
        needs={"libc.so.6": "/a"},
        programs={"/lib/ld": "/a"},
        tls=True,
        facts={"n": [1]},
    )
    layer.write(tmp_path / "x.cpio", index)
    data = (tmp_path / "x.cpio").read_bytes()
    assert (index.archive_size, index.archive_sha256) == (len(data), hashlib.sha256(data).hexdigest())
    entries = {entry.path: entry for entry in index.entries}
    assert list(entries) == ["/a", "/b", "/dev", "/dev/console", odd]
    assert entries["/a"].sha256 == hashlib.sha256(b"content").hexdigest()
    assert (entries["/a"].size, entries["/b"].size, entries["/b"].target) == (7, 0, "a")
    assert entries["/dev/console"].device == (5, 1)
    assert entries[odd].sha256 == hashlib.sha256(b"").hexdigest()
    assert LayerIndex.read(tmp_path / "x.json") == index


def test_owners_are_in_archive_and_index(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_directory("/home", 0o700, (1000, 1001))
    layer.add_symlink("/home/link", "file", (1000, 0))
    layer.add_part("/home/file", _source(tmp_path, b"0123456789"), 2, 3, 0o4755, (0, 1001))
    layer.add_character_device("/null", 1, 3, 0o666, (1, 2))
    layer.add_block_device("/disk", 8, 1, 0o660, (0, 6))
    layer.add_bytes("/root", b"")
    data, index = _write(layer, tmp_path)
    owners = {
        "/disk": (0, 6),
        "/home": (1000, 1001),
        "/home/file": (0, 1001),
        "/home/link": (1000, 0),
        "/null": (1, 2),
        "/root": None,
    }
    assert {entry.path: entry.owner for entry in index.entries} == owners
    assert {f"/{entry.path}": entry.owner for entry, _ in read_cpio_bytes(data)} == {**owners, "/root": (0, 0)}
    assert {entry.path: content for entry, content in read_cpio_bytes(data)}["home/file"] == b"234"
    assert {entry.path: entry.device for entry in index.entries}["/disk"] == (8, 1)
    assert LayerIndex.read(tmp_path / "layer.json") == index


@pytest.mark.parametrize("owner", [(-1, 0), (0, 2**32 - 1)])
def test_an_owner_that_none_can_be_is_refused(owner: tuple[int, int]) -> None:
    with pytest.raises(UnikernelError, match="/a belongs to .*, which no user and group can be"):
        Layer("x").add_directory("/a", owner=owner)


def test_without_owners_archive_and_index_are_what_they_always_were(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_bytes("/bin/a", b"a" * 5000, 0o4755)
    layer.add_symlink("/b", "bin/a")
    layer.add_directory("/tmp", 0o1777)
    layer.add_character_device("/dev/console", 5, 1, 0o600)
    data, _ = _write(layer, tmp_path)
    assert hashlib.sha256(data).hexdigest() == "a60dbcb71467099a086a1e25aeb2f36e7a1936e32f8397b22b68fbf77dcd8586"
    index = (tmp_path / "layer.json").read_bytes()
    assert hashlib.sha256(index).hexdigest() == "8d6f6a15ddbf95fd9df30e3cb2250c97a8afbec871482103ed9d9ad1c4541341"


def test_paths_are_left_out_with_what_is_below_them() -> None:
    layer = Layer("x")
    for path in ("/a/b/c", "/a/bc", "/d"):
        layer.add_bytes(path, b"")
    layer.leave_out(["/a/b", "/d", "/none"])
    assert list(layer.paths()) == ["/a", "/a/bc"]


def test_an_index_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    LayerIndex("x", []).write(path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "version": INDEX_VERSION + 1}))
    with pytest.raises(UnikernelError, match=f"version {INDEX_VERSION + 1}"):
        LayerIndex.read(path)


def test_a_file_that_changes_while_the_layer_is_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_text("long content")
    layer = Layer("x")
    layer.add_file("/a", source)
    original = Path.open

    def shrinking_open(self: Path, mode: str = "r") -> IO[Any]:
        if self == source:
            os.truncate(source, 3)
        return original(self, mode)

    monkeypatch.setattr(Path, "open", shrinking_open)
    with pytest.raises(UnikernelError, match="a became shorter"):
        layer.write(tmp_path / "x.cpio", LayerIndex("x", []))
