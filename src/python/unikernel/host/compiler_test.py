from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.host.compiler import CompilerDescription, describe_compiler


def test_what_a_compiler_links_with_is_described_by_digest(tmp_path: Path) -> None:
    description = describe_compiler("gcc", ["-static"], tmp_path)
    assert description.version.startswith("gcc ")
    files = {Path(file.path).name: file for file in description.files}
    assert {"libc.a", "libgcc.a", "crt1.o"} <= set(files)
    libc = files["libc.a"]
    assert libc.sha256 == file_sha256(Path(libc.path))
    # On a machine whose packages dpkg knows.
    assert not shutil.which("dpkg-query") or libc.purl.startswith("pkg:deb/")
    assert description.library_version == libc.version
    assert CompilerDescription.from_json(description.to_json()) == description


def test_a_compiler_that_is_not_there_or_does_not_link(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="none/cc cannot be run: No such file"):
        describe_compiler(str(tmp_path / "none/cc"), [], tmp_path)
    with pytest.raises(UnikernelError, match="gcc does not link an empty program: is all that belongs to it installed"):
        describe_compiler("gcc", ["-lnosuchlibrary"], tmp_path)
