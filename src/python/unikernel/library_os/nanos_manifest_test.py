from __future__ import annotations

from pathlib import Path

import pytest

from unikernel.image.manifest_pb2 import Start
from unikernel.image.spec import Network
from unikernel.library_os.nanos_manifest import nanos_manifest
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.merge import merged_rootfs

_START = Start(program="/app/a", arguments=["/app/a", 'q"b\\', "two words"], environment=["A=1", "B=x=y"], working_directory="/srv")


def _manifest(tmp_path: Path, network: Network) -> str:
    layer = Layer("application")
    layer.add_bytes("/app/a", b"program")
    layer.add_symlink("/app/link", "a")
    layer.add_directory("/tmp")
    layer.write(tmp_path / "a.cpio", LayerIndex("application", []))
    with merged_rootfs([tmp_path / "a.cpio"]) as rootfs:
        return nanos_manifest(rootfs, {"/app/a": "/build/0 (1)"}, _START, network)


def test_a_root_file_system_is_a_tuple(tmp_path: Path) -> None:
    assert _manifest(tmp_path, Network()) == (
        '("children":("app":("children":("a":("contents":("host":"/build/0 (1)")) "link":("linktarget":"a"))) "tmp":("children":())) '
        '"program":"/app/a" "arguments":["/app/a" "q\\"b\\\\" "two words"] "environment":("A":"1" "B":"x=y") "cwd":"/srv")\n'
    )


@pytest.mark.parametrize(
    ("network", "written"),
    [
        (
            Network("static", "10.0.2.15/20", "10.0.2.2"),
            '"en1":("ipaddr":"10.0.2.15" "netmask":"255.255.240.0" "gateway":"10.0.2.2")',
        ),
        (Network("static", "10.0.2.15/24"), '"en1":("ipaddr":"10.0.2.15" "netmask":"255.255.255.0")'),
    ],
)
def test_a_static_address_is_the_first_interfaces(tmp_path: Path, network: Network, written: str) -> None:
    assert _manifest(tmp_path, network).endswith(f'"cwd":"/srv" {written})\n')
