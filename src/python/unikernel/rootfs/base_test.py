from __future__ import annotations

import stat
from pathlib import Path

import certifi
import pytest

from unikernel.errors import UnikernelError
from unikernel.image.spec import Network
from unikernel.rootfs.base import CERTIFICATES, build_base_layer
from unikernel.rootfs.layer import Layer, LayerIndex

_DHCP = Network()


def _layer(network: Network = _DHCP, tls: bool = False, directories: tuple[str, ...] = (), timezone: str | None = None) -> Layer:
    return build_base_layer(network, "host", tls=tls, openssl_directories=list(directories), timezone=timezone)


def _text(layer: Layer, path: str) -> str:
    with layer.open(path) as stream:
        return stream.read().decode()


def test_the_console_and_the_usual_directories_are_there(tmp_path: Path) -> None:
    index = LayerIndex("base", [])
    _layer().write(tmp_path / "base.cpio", index)
    entries = {entry.path: entry for entry in index.entries}
    assert entries["/dev/console"].mode == stat.S_IFCHR | 0o600
    assert entries["/dev/console"].device == (5, 1)
    assert entries["/tmp"].mode == entries["/var/tmp"].mode == stat.S_IFDIR | 0o1777
    assert {"/proc", "/sys", "/run", "/etc", "/root"} <= set(entries)
    assert entries["/var/run"].target == "/run"


def test_names_are_resolved_from_files_first() -> None:
    layer = _layer(Network(nameservers=("1.1.1.1", "8.8.8.8")))
    assert "hosts: files dns\n" in _text(layer, "/etc/nsswitch.conf")
    assert "127.0.1.1\thost\n" in _text(layer, "/etc/hosts")
    assert _text(layer, "/etc/hostname") == "host\n"
    assert _text(layer, "/etc/resolv.conf").startswith("nameserver 1.1.1.1\nnameserver 8.8.8.8\noptions timeout:1")


def test_certificates_are_where_tls_libraries_look() -> None:
    assert CERTIFICATES not in _layer()
    layer = _layer(tls=True, directories=("/usr/lib/ssl", "/usr/lib/ssl/", "/etc/ssl"))
    assert _text(layer, CERTIFICATES) == certifi.contents()
    assert layer.symlink_target("/usr/lib/ssl/cert.pem") == layer.symlink_target("/etc/ssl/cert.pem") == CERTIFICATES


def test_time_zones() -> None:
    assert "/usr/share/zoneinfo" not in _layer()
    layer = _layer(timezone="Europe/Paris")
    assert layer.symlink_target("/etc/localtime") == "/usr/share/zoneinfo/Europe/Paris"
    assert _text(layer, "/etc/timezone") == "Europe/Paris\n"
    with layer.open("/usr/share/zoneinfo/Europe/Paris") as stream:
        assert stream.read(4) == b"TZif"
    assert "/usr/share/zoneinfo/UTC" in layer
    assert not [path for path in layer.paths() if path.endswith((".py", ".pyc", "__pycache__"))]


@pytest.mark.parametrize("timezone", ["Paris", "Europe", "", "../zoneinfo/UTC", "zone.tab", "/UTC", "Europe/Paris/x"])
def test_a_time_zone_that_is_none_is_named(timezone: str) -> None:
    with pytest.raises(UnikernelError, match=f"timezone: '{timezone}' is no zone"):
        _layer(timezone=timezone)
