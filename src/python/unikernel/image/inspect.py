"""An image's manifest as text for people."""

from __future__ import annotations

import shlex
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.image.manifest_pb2 import Manifest
from unikernel.image.spec import format_size


def describe(manifest: Manifest, image: Path) -> str:
    rows = [
        ("image", f"{image} ({image.stat().st_size} bytes)"),
        ("sha256", file_sha256(image)),
        ("name", manifest.name),
        ("target", manifest.target),
        ("architecture", manifest.architecture),
        ("library OS", f"{manifest.library_os.name} {manifest.library_os.version}"),
        ("kit", manifest.library_os.kit_sha256),
        ("  options", f"{len(manifest.library_os.config)} are set (--json lists them)" if manifest.library_os.config else ""),
        ("rootfs", f"{manifest.rootfs.sha256} ({manifest.rootfs.size} bytes)"),
        *((f"  {layer.name}", f"{layer.sha256} ({layer.size} bytes)") for layer in manifest.rootfs.layers),
        (
            "  packed",
            f"{manifest.rootfs.packed_sha256} ({manifest.rootfs.packed_size} bytes)" if manifest.rootfs.packed_sha256 else "",
        ),
        ("reproducible", "no: its packer gives other bytes each time" if manifest.not_reproducible else ""),
        ("command line", manifest.command_line),
        ("program", manifest.start.program),
        ("arguments", shlex.join(manifest.start.arguments)),
        *(("environment", variable) for variable in manifest.start.environment),
        ("working directory", manifest.start.working_directory),
        ("user", manifest.start.user),
        ("memory", format_size(manifest.memory_bytes)),
        ("CPUs", str(manifest.cpus)),
        ("network", _network(manifest)),
        *(("port", f"{port.host_port}:{port.guest_port}/{port.protocol}") for port in manifest.ports),
        *((f"input {item.name}", item.sha256) for item in manifest.inputs),
        *((f"tool {tool.name}", tool.version) for tool in manifest.tools),
        ("manifest", f"schema version {manifest.schema_version}"),
    ]
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in rows if value)


def _network(manifest: Manifest) -> str:
    network = manifest.network
    words = [network.mode]
    if network.address:
        words.append(network.address)
    if network.gateway:
        words.append(f"gateway {network.gateway}")
    if network.nameservers:
        words.append("name servers " + " ".join(network.nameservers))
    return ", ".join(words)
