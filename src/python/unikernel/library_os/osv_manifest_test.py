from __future__ import annotations

from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.library_os.osv_manifest import osv_manifest
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.merge import merged_rootfs


def _manifest(tmp_path: Path, *paths: str) -> str:
    layer = Layer("application")
    for path in paths:
        layer.add_bytes(path, b"content")
    layer.add_symlink("/app/link", "a")
    layer.write(tmp_path / "a.cpio", LayerIndex("application", []))
    with merged_rootfs([tmp_path / "a.cpio"]) as rootfs:
        return osv_manifest(rootfs, {path: f"/build/{number}" for number, path in enumerate(paths)})


def test_a_root_file_system_is_a_line_a_path(tmp_path: Path) -> None:
    assert _manifest(tmp_path, "/app/a", "/etc/hosts") == "[manifest]\n/app/a: /build/0\n/app/link: ->a\n/etc/hosts: /build/1\n"


@pytest.mark.parametrize("path", ["/app/a: b", "/app/a\nb", "/app/a "])
def test_a_path_that_a_line_cannot_have_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnikernelError, match="OSv's manifest cannot name"):
        _manifest(tmp_path, path)
