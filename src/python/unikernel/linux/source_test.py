from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.linux.source import describe_source, kernel_version, pack_kconfig, unpack

_MAKEFILE = "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n"


def _tarball(path: Path, files: dict[str, str], mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(f"linux-6.1/{name}")
            info.size = len(content)
            info.mode = 0o775 if name.endswith(".sh") else 0o664
            archive.addfile(info, io.BytesIO(content.encode()))
    return path


@pytest.mark.parametrize(
    "names",
    [
        ["linux-source-6.1.tar.xz", "linux-source-6.12.tar.xz"],
        ["linux-6.9.12.tar.xz", "linux-6.12.tar.xz", "linux-6.12.1.tar.xz"],
        ["linux-6.1.1.tar.bz2", "linux-6.1.2.tar.xz"],
        ["linux-6.1.tar.bz2", "linux-6.1.1.tar.xz"],
        ["linux-6.11.9.tar.xz", "linux-6.12-rc2.tar.gz", "linux-6.12.tar.gz"],
        ["linux-6.12-rc2.tar.gz", "linux-6.12-rc10.tar.gz", "linux-6.12.1.tar.gz"],
    ],
)
def test_the_newest_version_is_taken(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text(name)
        assert describe_source([str(tmp_path / "linux-*.tar.*")], tmp_path / "cache")["path"] == str(tmp_path / name)


def test_the_first_pattern_that_matches_a_file_decides(tmp_path: Path) -> None:
    (tmp_path / "linux-9.9.tar.xz").mkdir()
    (tmp_path / "mine.tar").write_text("mine")
    (tmp_path / "other-9.tar").write_text("other")
    patterns = [str(tmp_path / name) for name in ("none-*.tar", "linux-*.tar.xz", "mine.tar", "other-*.tar")]
    assert describe_source(patterns, tmp_path / "cache") == {
        "path": str(tmp_path / "mine.tar"),
        "sha256": hashlib.sha256(b"mine").hexdigest(),
        "size": 4,
    }


def test_the_home_directory_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "linux-6.tar").write_text("x")
    assert describe_source(["~/linux-*.tar"], tmp_path / "cache")["path"] == str(tmp_path / "linux-6.tar")


def test_no_source_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="nothing matches /none/a or /none/b"):
        describe_source(["/none/a", "/none/b"], tmp_path / "cache")


def test_the_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path, cache = tmp_path / "linux.tar", tmp_path / "deep/cache"
    path.write_text("one")
    first = describe_source([str(path)], cache)
    (remembered,) = cache.iterdir()
    remembered.write_text("remembered")
    assert describe_source([str(path)], cache)["sha256"] == "remembered"
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert describe_source([str(path)], cache)["sha256"] == hashlib.sha256(b"two").hexdigest() != first["sha256"]


def test_members_are_unpacked_without_the_top_directory(tmp_path: Path) -> None:
    source = _tarball(
        tmp_path / "l.tar.xz", {"Makefile": _MAKEFILE, "kernel/Kconfig": "k", "kernel/a.c": "c", "tools/Kconfig": "t"}
    )
    unpack(source, tmp_path / "out", tar="tar", members=["*/Makefile", "*/Kconfig*", "*/never"], excluded=["*/tools/*"])
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()) == [
        "Makefile",
        "kernel/Kconfig",
    ]


def test_what_is_no_tarball_is_refused(tmp_path: Path) -> None:
    (tmp_path / "linux.tar.xz").write_text("not a tarball")
    with pytest.raises(UnikernelError, match=r"The kernel source linux\.tar\.xz cannot be unpacked: ."):
        unpack(tmp_path / "linux.tar.xz", tmp_path / "out", tar="tar")


@pytest.mark.parametrize("members", [(), ("*/Makefile", "*/never")])
def test_a_truncated_tarball_is_refused_even_if_its_makefile_came_first(tmp_path: Path, members: tuple[str, ...]) -> None:
    source = _tarball(tmp_path / "linux.tar.gz", {"Makefile": _MAKEFILE, "a": os.urandom(50000).hex()}, "w:gz")
    source.write_bytes(source.read_bytes()[:-2000])
    with pytest.raises(UnikernelError, match="cannot be unpacked"):
        unpack(source, tmp_path / "out", tar="tar", members=members)


def test_a_tar_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = _tarball(tmp_path / "l.tar.xz", {"Makefile": _MAKEFILE})
    with pytest.raises(UnikernelError, match="/none/tar cannot be run"):
        unpack(source, tmp_path / "out", tar="/none/tar")


def test_packed_kconfig_is_the_same_bytes_whenever_it_is_packed(tmp_path: Path) -> None:
    files = {
        "Makefile": _MAKEFILE,
        "Kconfig": "root",
        "scripts/x.sh": "#!",
        "scripts/gdb/y": "no",
        "kernel/a.c": "no",
        "fs/x/Makefile": "no",
    }
    _tarball(tmp_path / "a.tar.xz", files)
    _tarball(tmp_path / "b.tar.gz", dict(reversed(list(files.items()))), "w:gz")
    for name in ("a.tar.xz", "b.tar.gz"):
        (tmp_path / f"scratch-{name}").mkdir()
        pack_kconfig(tmp_path / name, tmp_path / f"{name}.kconfig", tar="tar", scratch=tmp_path / f"scratch-{name}")
    packed = tmp_path / "a.tar.xz.kconfig"
    assert packed.read_bytes() == (tmp_path / "b.tar.gz.kconfig").read_bytes()
    with tarfile.open(packed) as archive:
        assert {member.name: member.mode for member in archive} == {
            "linux/Kconfig": 0o644,
            "linux/Makefile": 0o644,
            "linux/scripts/x.sh": 0o755,
        }


def test_a_tarball_of_something_else_is_refused(tmp_path: Path) -> None:
    source = _tarball(tmp_path / "other.tar.xz", {"Makefile": "all:\n", "Kconfig": ""})
    with pytest.raises(UnikernelError, match="no Makefile that names a kernel version"):
        pack_kconfig(source, tmp_path / "packed", tar="tar", scratch=tmp_path)


def test_the_version_is_the_makefiles(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(_MAKEFILE)
    assert kernel_version(tmp_path) == "6.1.192"
    with pytest.raises(UnikernelError, match="is not one"):
        kernel_version(tmp_path / "none")
