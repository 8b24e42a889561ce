from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pants_unikernel.cc import toolchain_fingerprint

# A driver that finds headers and libraries in the directory that it is in, and can't compile.
FAKE_DRIVER = f"""\
#!{sys.executable}
import os, sys
here = os.path.dirname(os.path.abspath(sys.argv[0]))
argument = sys.argv[1]
if argument == "--version":
    print(open(os.path.join(here, "version")).read())
elif argument.startswith("-print-file-name="):
    name = argument.partition("=")[2]
    path = os.path.join(here, name)
    print(path if os.path.exists(path) else name)
elif argument == "-E":
    print("#include <...> search starts here:\\n " + here + "/include\\nEnd of search list.")
else:
    sys.exit(1)
"""


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    path = tmp_path / "cc"
    path.write_text(FAKE_DRIVER)
    path.chmod(0o755)
    (tmp_path / "version").write_text("1.0")
    (tmp_path / "include/sys").mkdir(parents=True)
    (tmp_path / "include/sys/types.h").write_text("")
    return path


def fingerprint(tmp_path: Path, *arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, toolchain_fingerprint.__file__, *map(str, arguments)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        check=True,
    )
    return result.stdout.decode().strip()


def test_toolchain(tmp_path: Path, driver: Path) -> None:
    def current() -> str:
        return fingerprint(tmp_path, "toolchain", f"c={driver}")

    first = current()
    assert len(first) == 64 and current() == first
    (tmp_path / "version").write_text("1.1")
    second = current()
    assert second != first
    header = tmp_path / "include/sys/types.h"
    header.write_text("#define X")
    third = current()
    assert third != second
    os.utime(header, (1, 1))
    fourth = current()
    assert fourth != third
    os.symlink("nowhere", tmp_path / "include/dangling.h")
    assert current() == fourth
    assert fingerprint(tmp_path, "toolchain", f"c={driver}", f"c++={driver}") != fourth


def test_libraries(tmp_path: Path, driver: Path) -> None:
    def current(*flags: str) -> str:
        return fingerprint(tmp_path, "libraries", driver, *flags)

    absent = current("-lfoo")
    (tmp_path / "libfoo.a").write_text("1")
    present = current("-lfoo")
    assert present != absent
    (tmp_path / "libfoo.a").write_text("2")
    assert current("-lfoo") not in (present, absent)
    assert current("-lbar") == current("-lbar")
    # A file by its name, and a directory that the driver does not know of.
    by_name = current("-l:special.o")
    (tmp_path / "special.o").write_text("")
    assert current("-l:special.o") != by_name
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = current(f"-L{elsewhere}", "-lfoo")
    (elsewhere / "libfoo.a").write_text("3")
    assert current(f"-L{elsewhere}", "-lfoo") != before


def test_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(directory: str, name: str, text: str, mode: int = 0o755) -> str:
        path = tmp_path / directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return str(path)

    program("first", "tool", "exit 1")
    program("first", "other", "echo 0", 0o644)
    tool = program("second", "tool", "echo 1.0; echo warning >&2")
    other = program("second", "other", "echo 2.0")
    program("third", "tool", "echo 3.0")
    (tmp_path / "first/dir").mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("first", "nowhere", "second", "third")))
    found = toolchain_fingerprint.find_programs(["other", "tool", "dir", "missing"])
    assert {name: item["path"] for name, item in found.items()} == {"tool": tool, "other": other}
    assert found["tool"]["version"] == hashlib.sha256(b"1.0\n").hexdigest()
    assert json.loads(fingerprint(tmp_path, "programs", "tool", "missing")) == {"tool": found["tool"]}


def test_unknown_command(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        toolchain_fingerprint.main("nothing")
