"""With every CPython that is installed: the distribution's, and pyenv's."""

from __future__ import annotations

import glob
import os
import re
import subprocess
from pathlib import Path

import pytest

from unikernel.host.python import capture_python, describe_python
from unikernel.image.limits import check_needs
from unikernel.rootfs.layer import LayerIndex
from unikernel.rootfs.python_runtime import PythonRuntime, build_runtime_layer

_PLACES = ("/usr/bin/python3.*", "~/.pyenv/versions/*/bin/python3.*")
_OLDEST = (3, 8)


def _interpreters() -> list[str]:
    found = []
    for place in _PLACES:
        for path in sorted(glob.glob(os.path.expanduser(place))):
            match = re.fullmatch(r"python3\.(\d+)", os.path.basename(path))
            if match is not None and (3, int(match[1])) >= _OLDEST:
                found.append(path)
    return found


@pytest.mark.parametrize("interpreter", _interpreters())
def test_an_installed_interpreter_is_captured_runs_and_becomes_a_layer(interpreter: str, tmp_path: Path) -> None:
    description = describe_python(Path(interpreter))
    capture_python(description, tmp_path / "captured")
    runtime = PythonRuntime.load(tmp_path / "captured")
    code = "import asyncio, bz2, ctypes, hashlib, lzma, sqlite3, ssl, sys, zlib; print(sys.prefix, *sys.version_info[:2], sep='|')"
    result = subprocess.run(
        [*runtime.command(), "-S", "-c", code], env={"PYTHONHOME": str(runtime.root)}, stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert result.stdout == f"{runtime.root}|{runtime.facts.series.replace('.', '|')}\n"
    (tmp_path / "scratch").mkdir()
    layer, index = build_runtime_layer(runtime, tmp_path / "scratch", "strip")
    layer.write(tmp_path / "python.cpio", index)
    check_needs([LayerIndex.read(tmp_path / "python.json")])
    assert f"/usr/bin/python{runtime.facts.series}" in layer
    assert runtime.facts.site_packages in layer
