"""Holds the root file system of an image against what its manifest says of it."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

from unikernel.blocks import HashingWriter, copy_bytes
from unikernel.errors import UnikernelError
from unikernel.image.attachment import ROOTFS_SECTION, read_section, read_trailer
from unikernel.image.manifest import rootfs_sha256
from unikernel.image.manifest_pb2 import Manifest
from unikernel.rootfs.cpio import MAGIC, PAGE


def check_contents(image: Path, manifest: Manifest) -> None:
    """Raises UnikernelError when the layers in the image are not those of its manifest, or its command line is another one."""
    layers = manifest.rootfs.layers
    if rootfs_sha256(layers) != manifest.rootfs.sha256:
        raise UnikernelError(
            f"The manifest of {image} contradicts itself: its root file system's digest is not that of its layers."
        )
    if manifest.rootfs.packed_sha256:
        _check_packed(image, manifest)
        return
    with image.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        position = first_archive(content)
        for layer in layers:
            end = position + layer.size
            if position < 0 or end > len(content) or _sha256(content, position, end) != layer.sha256:
                raise UnikernelError(f"The layer {layer.name!r} in {image} is not the one that its manifest describes.")
            position = -(-end // PAGE) * PAGE
        if content.find(manifest.command_line.encode() + b"\0") < 0:
            raise UnikernelError(f"The command line in {image} is not the one that its manifest describes.")


def _check_packed(image: Path, manifest: Manifest) -> None:
    """What was packed is in a section, in an image that is a kernel, and all but the trailer, in one that is a disk."""
    with image.open("rb") as stream:
        trailer = read_trailer(stream)
    packed = HashingWriter()
    if trailer is None:
        read_section(image, ROOTFS_SECTION, packed)
    else:
        with image.open("rb") as stream:
            copy_bytes(stream, packed, manifest.rootfs.packed_size)
    if packed.sha256.hexdigest() != manifest.rootfs.packed_sha256:
        raise UnikernelError(f"What is packed in {image} is not what its manifest describes.")


def first_archive(content: bytes | mmap.mmap) -> int:
    """The offset of the root file system in an image: archives start at pages, see linux/kernel/rootfs.c. -1 when there is none."""
    position = content.find(MAGIC)
    while position >= 0 and position % PAGE:
        position = content.find(MAGIC, position + 1)
    return position


def _sha256(content: mmap.mmap, start: int, end: int) -> str:
    digest = hashlib.sha256()
    with memoryview(content) as view:
        digest.update(view[start:end])
    return digest.hexdigest()
