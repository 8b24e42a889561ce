from __future__ import annotations

import os
from pathlib import Path

import pytest

from unikernel.elf import ElfKind, read_elf_file
from unikernel.errors import UnikernelError
from unikernel.linux.pid1 import build_init

_ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.mark.parametrize("compiler", ["musl-gcc", "gcc"])
def test_pid_1_is_a_static_program_that_is_the_same_from_two_directories(tmp_path: Path, compiler: str) -> None:
    for name in ("one", "a/longer/path/than/the/other"):
        directory = tmp_path / name
        directory.mkdir(parents=True)
        build_init(compiler, directory / "init", environment=_ENVIRONMENT, scratch=directory)
        facts = read_elf_file(directory / "init")
        assert (facts.kind, facts.machine) == (ElfKind.STATIC, "x86_64")
        assert os.access(directory / "init", os.X_OK)
        assert b"_test.c" not in (directory / "init").read_bytes()
    assert (tmp_path / "one/init").read_bytes() == (directory / "init").read_bytes()


def test_a_compiler_that_fails_shows_what_it_said(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho cannot find -lc >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(UnikernelError, match=r"PID 1 does not compile with .*cc:\ncannot find -lc"):
        build_init(str(compiler), tmp_path / "init", environment=_ENVIRONMENT, scratch=tmp_path)


def test_a_compiler_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="none cannot be run"):
        build_init(str(tmp_path / "none"), tmp_path / "init", environment=_ENVIRONMENT, scratch=tmp_path)
