"""The base layer: the directories and files that the C library, Python and others look for in every system."""

from __future__ import annotations

import importlib.resources
import posixpath

import certifi

from unikernel.errors import UnikernelError
from unikernel.image.spec import Network
from unikernel.rootfs.layer import Layer

# Debian's and Go's place; what an OpenSSL looks for is linked to it.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_ZONES = "/usr/share/zoneinfo"
# One second, twice: a resolver that does not answer must not hold a service up for half a minute (resolv.conf(5)).
RESOLVER_OPTIONS = "options timeout:1 attempts:2"


def build_base_layer(network: Network, hostname: str, *, tls: bool, openssl_directories: list[str], timezone: str | None) -> Layer:
    layer = Layer("base")
    for directory in ("dev", "etc", "proc", "run", "sys", "usr", "var"):
        layer.add_directory(f"/{directory}")
    layer.add_directory("/root", 0o700)
    layer.add_directory("/tmp", 0o1777)
    layer.add_symlink("/var/run", "/run")
    layer.add_directory("/var/tmp", 0o1777)
    # What the kernel opens for PID 1's standard streams: major 5, minor 1 (Documentation/admin-guide/devices.txt).
    layer.add_character_device("/dev/console", 5, 1, 0o600)
    _add_text(layer, "/etc/hostname", hostname)
    _add_text(layer, "/etc/hosts", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost", f"127.0.1.1\t{hostname}")
    _add_text(layer, "/etc/nsswitch.conf", "passwd: files", "group: files", "hosts: files dns", "services: files")
    _add_text(layer, "/etc/passwd", "root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/nonexistent:/bin/false")
    _add_text(layer, "/etc/group", "root:x:0:", "nogroup:x:65534:")
    # With DHCP, PID 1 writes this file anew when the server names name servers and the image does not.
    _add_text(layer, "/etc/resolv.conf", *(f"nameserver {server}" for server in network.nameservers), RESOLVER_OPTIONS)
    if tls:
        _add_certificates(layer, openssl_directories)
    if timezone is not None:
        _add_time_zones(layer, timezone)
    return layer


def _add_text(layer: Layer, path: str, *lines: str) -> None:
    layer.add_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def _add_certificates(layer: Layer, openssl_directories: list[str]) -> None:
    layer.add_bytes(CERTIFICATES, certifi.contents().encode())
    for directory in sorted({posixpath.normpath(directory) for directory in openssl_directories}):
        layer.add_symlink(f"{directory}/cert.pem", CERTIFICATES)


def _add_time_zones(layer: Layer, timezone: str) -> None:
    zones = importlib.resources.files("tzdata") / "zoneinfo"
    chosen = zones.joinpath(*timezone.split("/"))
    if {"", ".", ".."} & set(timezone.split("/")) or not chosen.is_file() or not chosen.read_bytes().startswith(b"TZif"):
        raise UnikernelError(f'timezone: {timezone!r} is no zone of the IANA database; write it as "Europe/Paris" or "UTC".')

    def add(directory, prefix: str) -> None:  # type: ignore[no-untyped-def]
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
            if entry.is_dir():
                if entry.name != "__pycache__":
                    add(entry, f"{prefix}/{entry.name}")
            elif not entry.name.endswith((".py", ".pyc")):
                layer.add_bytes(f"{prefix}/{entry.name}", entry.read_bytes())

    add(zones, _ZONES)
    layer.add_symlink("/etc/localtime", f"{_ZONES}/{timezone}")
    _add_text(layer, "/etc/timezone", timezone)
