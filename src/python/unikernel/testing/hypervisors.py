"""Images for tests of hypervisors: an ELF file with the notes of a kernel, and a manifest."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unikernel.image import manifest as image_manifest
from unikernel.image.manifest_pb2 import LibraryOs, Manifest, Network, Port

# XEN_ELFNOTE_PHYS32_ENTRY.
PVH = 18
# What Xen takes, and libvirt's machine for more than one CPU.
KERNEL_OPTIONS = ("ACPI=y", "HVC_XEN=y", "XEN=y", "XEN_NETDEV_FRONTEND=y", "XEN_PVH=y")


def pvh_image(path: Path, *, notes: Iterable[int] = (PVH,), ports: Iterable[tuple[int, int, str]] = (), **fields: Any) -> Path:
    """`notes` are types of notes of the owner "Xen"; `ports` are guest's, host's and protocol; `fields` are the manifest's."""
    values: dict[str, Any] = {
        "name": "unikernel",
        "target": "src/services/hello:unikernel",
        "architecture": "x86_64",
        "library_os": LibraryOs(name="linux", config=KERNEL_OPTIONS),
        "memory_bytes": 64 << 20,
        "cpus": 1,
        "network": Network(mode="dhcp"),
        **fields,
    }
    manifest = Manifest(
        ports=[Port(guest_port=guest, host_port=host, protocol=protocol) for guest, host, protocol in ports], **values
    )
    content = b"".join(struct.pack("<III4s8s", 4, 8, kind, b"Xen\0", bytes(8)) for kind in notes)
    content += image_manifest.note(image_manifest.encode(manifest))
    directory = path.parent / f".{path.name}.parts"
    directory.mkdir(parents=True)
    (directory / "notes").write_bytes(content)
    source = '.globl _start\n_start: hlt\n.section .note.all, "a", @note\n.balign 4\n.incbin "notes"\n'
    (directory / "kernel.s").write_text(source)
    subprocess.run(["as", "-o", "kernel.o", "kernel.s"], cwd=directory, check=True)
    subprocess.run(["ld", "-o", "kernel", "kernel.o"], cwd=directory, check=True)
    (directory / "kernel").rename(path)
    return path
