"""Ports of the host that are forwarded to a machine's."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

from unikernel.errors import UnikernelError
from unikernel.image.manifest_pb2 import Manifest
from unikernel.image.spec import Port

# A line of QEMU's "info usernet": "  TCP[HOST_FORWARD]  13  127.0.0.1 40193  10.0.2.15 8080  0  0".
_FORWARDED = re.compile(r"(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)\s")


def ports_of(manifest: Manifest, wanted: Sequence[Port] | None) -> list[Port]:
    """Those that are to be forwarded: `wanted` ones, or the image's own. Without a network there are none."""
    if manifest.network.mode == "none":
        return []
    if wanted is not None:
        return list(wanted)
    return [Port(port.guest_port, port.host_port, port.protocol) for port in manifest.ports]


def check_ports(ports: Sequence[Port], host: str) -> None:
    """Raises UnikernelError for a host port that something else already listens on."""
    seen = set()
    for port in ports:
        if not port.host_port:
            continue
        if (port.protocol, port.host_port) in seen:
            raise UnikernelError(f"Port {port.host_port}/{port.protocol} of {host} is to be forwarded twice.")
        seen.add((port.protocol, port.host_port))
        kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port.host_port))
            except OSError as error:
                raise UnikernelError(
                    f"Port {port.host_port}/{port.protocol} of {host} cannot be forwarded: {error.strerror}. Choose another, as in "
                    f"-p {port.host_port + 10000 if port.host_port < 50000 else 18080}:{port.guest_port}."
                ) from error


def forwarded_ports(usernet: str) -> dict[tuple[int, str], int]:
    """What QEMU's "info usernet" says: by the guest's port and the protocol, the host's port."""
    return {(int(guest), kind.lower()): int(host) for kind, host, guest in _FORWARDED.findall(usernet)}
