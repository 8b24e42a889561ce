"""Manifests for tests."""

from __future__ import annotations

from unikernel.image.manifest_pb2 import Manifest, Network


def make_manifest(**changes: object) -> Manifest:
    """Of a small image with a network card; `changes` are fields of the message."""
    settings = {
        "name": "a",
        "memory_bytes": 64 << 20,
        "cpus": 1,
        "network": Network(mode="dhcp"),
        "command_line": "quiet",
        **changes,
    }
    return Manifest(**settings)  # type: ignore[arg-type]
