from __future__ import annotations

import stat
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.rootfs.cpio import read_cpio_bytes
from unikernel.rootfs.files import PlacedFile, build_files_layer, parse_mode, read_placed_files, to_json
from unikernel.testing.programs import shared_library
from unikernel.testing.python import write_tree


def _modes(root: Path, *files: PlacedFile) -> dict[str, int]:
    layer, index = build_files_layer(root, files, "x86_64")
    layer.write(root / "files.cpio", index)
    entries = [entry for entry, _ in read_cpio_bytes((root / "files.cpio").read_bytes())]
    return {f"/{entry.path}": stat.S_IMODE(entry.mode) for entry in entries if stat.S_ISREG(entry.mode)}


def test_files_and_directories_are_placed(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.conf": "", "tree/x": "", "tree/deep/y": "", "run.sh": ""})
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "tree/z").symlink_to("x")
    assert _modes(
        tmp_path,
        PlacedFile("a.conf", "/etc/a.conf", "0600"),
        PlacedFile("run.sh", "/bin/run"),
        PlacedFile("tree", "/srv/data/", "0444"),
    ) == {
        "/etc/a.conf": 0o600,
        "/bin/run": 0o755,
        "/srv/data/x": 0o444,
        "/srv/data/deep/y": 0o444,
        "/srv/data/z": 0o444,
    }


@pytest.mark.parametrize(
    ("file", "part"),
    [
        (PlacedFile("none", "/x"), "files: none is not there"),
        (PlacedFile("a", "/../x"), "leads out"),
        (PlacedFile("a", "/"), "root directory"),
        (PlacedFile("a", "/x", "rwx"), "files: /x: 'rwx' is no mode"),
    ],
)
def test_what_cannot_be_placed_is_named(tmp_path: Path, file: PlacedFile, part: str) -> None:
    write_tree(tmp_path, {"a": ""})
    with pytest.raises(UnikernelError, match=part):
        build_files_layer(tmp_path, [file], "x86_64")


def test_libraries_among_the_files_provide_and_need(tmp_path: Path) -> None:
    shared_library(tmp_path / "liba.so", "a", needs=[shared_library(tmp_path / "x/libb.so", "b")])
    _, index = build_files_layer(tmp_path, [PlacedFile("liba.so", "/usr/lib/liba.so")], "x86_64")
    assert index.provides == {"liba.so": "/usr/lib/liba.so"}
    assert index.needs == {"libb.so": "/usr/lib/liba.so"}


def test_placed_files_survive_a_round_trip(tmp_path: Path) -> None:
    files = [PlacedFile("a", "/a", "0644"), PlacedFile("b", "/ü")]
    (tmp_path / "files.json").write_text(to_json(files))
    assert read_placed_files(tmp_path / "files.json") == files


@pytest.mark.parametrize(("text", "mode"), [("0644", 0o644), ("755", 0o755), ("04755", 0o4755), ("0", 0)])
def test_modes(text: str, mode: int) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize("text", ["", "rw", "0888", "-1", "10000", "0644 x"])
def test_bad_modes_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no mode; write it in octal"):
        parse_mode(text)
