"""With PEX files that the `pex` of this environment builds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unikernel.rootfs.pex import is_pex, unpack_pex
from unikernel.testing.python import write_tree


def _files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def _build(pex: Path, sources: Path, *arguments: str) -> Path:
    command = [sys.executable, "-m", "pex", "--disable-cache", "-D", str(sources), "-o", str(pex), *arguments]
    # No PEX of the surrounding environment and no configuration file may have a say.
    subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "HOME": str(pex.parent), "PEX_IGNORE_RCFILES": "1"})
    return pex


@pytest.mark.parametrize("layout", ["zipapp", "loose", "packed"])
def test_what_pex_builds_is_taken_apart(tmp_path: Path, layout: str) -> None:
    sources = write_tree(tmp_path / "sources", {"app/__init__.py": "", "app/main.py": "print('hello')", "app/data/a b.txt": "data"})
    arguments = [
        "-e",
        "app.main:run.now",
        "--layout",
        layout,
        "--inject-args",
        "--port 80",
        "--inject-env",
        "MODE=production",
    ]
    pex = _build(tmp_path / "app.pex", sources, *arguments, "--interpreter-constraint", "CPython>=3.9", "--compile")
    assert is_pex(pex)
    facts = unpack_pex(pex, tmp_path / "unpacked")
    assert _files(tmp_path / "unpacked/application") == _files(sources), "and no bytecode, and nothing of PEX itself"
    assert list((tmp_path / "unpacked/distributions").iterdir()) == []
    assert (facts.entry_point, facts.script) == ("app.main:run.now", None)
    assert facts.inject_args == ("--port", "80")
    assert facts.inject_env == {"MODE": "production"}
    assert facts.interpreter_constraints == ("CPython>=3.9",)
