"""The files in an image: what it boots with, read from the image itself, without booting it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from unikernel.errors import UnikernelError
from unikernel.image.attachment import ROOTFS_SECTION, find_section, read_trailer
from unikernel.image.contents import first_archive
from unikernel.image.manifest import read_manifest
from unikernel.image.manifest_pb2 import Manifest
from unikernel.library_os import library_os_of
from unikernel.library_os.description import Pack, RootfsForm
from unikernel.rootfs.cpio import PAGE
from unikernel.rootfs.merge import MergedRootfs, merge_archives


@contextmanager
def image_rootfs(image: Path) -> Iterator[MergedRootfs]:
    """Raises UnikernelError for a file that is no image, and for an image whose root file system only its library OS can read."""
    manifest = read_manifest(image)
    with image.open("rb") as stream:
        try:
            yield merge_archives(_archives(image, stream, manifest))
        except ValueError as error:
            raise UnikernelError(f"The root file system of {image} is damaged: {error}.") from error


def _archives(image: Path, stream: BinaryIO, manifest: Manifest) -> Iterator[tuple[str, BinaryIO]]:
    if manifest.rootfs.packed_sha256:
        stream.seek(_packed_archive(image, stream, manifest))
        yield "packed", stream
        return
    if not manifest.rootfs.layers:
        raise UnikernelError(f"{image} has no root file system: it is a program that boots by itself.")
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        position = first_archive(content)
    if position < 0:
        raise UnikernelError(f"{image} lacks the root file system that its manifest describes.")
    for layer in manifest.rootfs.layers:
        stream.seek(position)
        yield layer.name, stream
        position += -(-layer.size // PAGE) * PAGE


def _packed_archive(image: Path, stream: BinaryIO, manifest: Manifest) -> int:
    """The offset of what was packed, where that is an archive."""
    name = manifest.library_os.name
    build = library_os_of(manifest).build
    if read_trailer(stream) is not None or not isinstance(build, Pack) or build.rootfs is not RootfsForm.CPIO or build.command:
        raise UnikernelError(f"{image} has its files as {name} packs them, which only {name} can read.")
    return find_section(image, ROOTFS_SECTION)[0]
