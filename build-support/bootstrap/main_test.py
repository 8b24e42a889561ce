"""The set-up as a command, as far as it goes without installing anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

_SOURCES = Path("build-support/bootstrap")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what sets a checkout up, in a directory with a space and a letter outside ASCII."""
    root = tmp_path / "my projet é"
    (root / "build-support/bootstrap").mkdir(parents=True)
    shutil.copy("bootstrap", root)
    for source in _SOURCES.glob("*.py"):
        shutil.copy(source, root / "build-support/bootstrap")
    (root / "bootstrap").chmod(0o755)
    return root


def bootstrap(checkout: Path, *options: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bootstrap"), *options],
        env={"PATH": os.environ["PATH"], "HOME": str(checkout), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a failure."""
    assert result.returncode == 1, result.stdout
    [line] = result.stderr.splitlines()
    assert line.startswith("bootstrap: ")
    return line


def test_no_python_is_one_line_with_the_fix(checkout: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "dirname", "env"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    assert "sudo apt-get install python3" in one_line(bootstrap(checkout, environment={"PATH": str(programs)}))


def test_caches_that_cannot_be_written_are_found_before_anything_is_done(checkout: Path) -> None:
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        line = one_line(bootstrap(checkout, environment={variable: "/proc/nowhere"}))
        assert "/proc" in line and f"set {variable}" in line


def test_an_interpreter_that_is_not_3_9_is_refused_by_name(checkout: Path) -> None:
    line = one_line(bootstrap(checkout, environment={"UNIKERNEL_BOOTSTRAP_PYTHON": "/bin/sh"}))
    assert "UNIKERNEL_BOOTSTRAP_PYTHON is '/bin/sh'" in line


def test_a_checkout_that_cannot_be_written_is_one_line(checkout: Path) -> None:
    (checkout / ".bootstrap").write_text("not a directory")
    assert ".bootstrap" in one_line(bootstrap(checkout, environment={}))


def test_help_says_what_tests_brings(checkout: Path) -> None:
    result = bootstrap(checkout, "--help", environment={})
    assert result.returncode == 0
    assert "--tests" in result.stdout and "QEMU" in result.stdout
