"""OCI packages of unikernel images, for what runs them: urunc in Kubernetes, KraftKit, and KubeVirt's virtual machines. See docs/oci.md.

A package is an image manifest with one layer. It has the image in it as it is, or the parts of it that a runtime hands to a hypervisor; no
container engine can run it.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.image.attachment import ROOTFS_SECTION, read_section, read_trailer, without_sections
from unikernel.image.manifest import read_manifest
from unikernel.image.manifest_pb2 import Manifest
from unikernel.image.spec import USUAL_PATH
from unikernel.library_os import library_os_of
from unikernel.library_os.command_line import quoted_words
from unikernel.library_os.description import LibraryOs
from unikernel.oci.container import CREATED
from unikernel.oci.layer import LayerFile, write_files_layer
from unikernel.oci.layout import (
    ARCHITECTURES,
    CONFIG,
    DISK_DIRECTORY,
    IMAGE_PATH,
    IMAGE_SHA256,
    INDEX,
    LAYER,
    MANIFEST,
    MEMORY,
    REFERENCE,
    UNCOMPRESSED_LAYER,
    Descriptor,
    Layout,
    index_document,
    manifest_document,
)

# urunc: pkg/unikontainers/config.go.
_URUNC = "com.urunc.unikernel."
_URUNC_FILE = "/urunc.json"
# KubeVirt: the hypervisor's user (qemu) reads a containerDisk.
_DISK_OWNER = (107, 107)
_DIRECTORY = "/unikernel"
# KraftKit: oci/wellknown.go, oci/annotations.go.
_KRAFT_KERNEL, _KRAFT_INITRD = "/unikraft/bin/kernel", "/unikraft/bin/initrd"


@dataclass(frozen=True)
class PackageSettings:
    """`labels` are the user's own."""

    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> PackageSettings:
        """From a JSON document. Raises UnikernelError."""
        try:
            return cls(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise UnikernelError(f"{path} does not describe a package: {error}.") from error


@dataclass(frozen=True)
class _Parts:
    """What a hypervisor is given: an image that is whole, or a kernel with an initial RAM disk."""

    kernel: Path
    initrd: Path | None = None


def write_package(image: Path, settings: PackageSettings, root: Path, scratch: Path) -> Descriptor:
    """Writes an OCI layout with the one package to `root`, and returns its manifest's descriptor."""
    manifest = read_manifest(image)
    with image.open("rb") as stream:
        is_disk = read_trailer(stream) is not None
    if is_disk:
        path = f"{DISK_DIRECTORY}/{image.name}"
        files, facts = [LayerFile(path, image, 0o444, _DISK_OWNER)], _Facts(path)
    else:
        files, facts = _files_for_urunc(image, manifest, library_os_of(manifest), scratch)
    annotations = {
        "org.opencontainers.image.title": manifest.name,
        IMAGE_SHA256: file_sha256(image),
        MEMORY: str(manifest.memory_bytes),
        IMAGE_PATH: facts.path,
        **facts.annotations,
    }
    layout = Layout(root)
    archive = scratch / "package.tar.gz"
    diff_id = write_files_layer(files, archive)
    config = {
        "created": CREATED,
        "architecture": ARCHITECTURES[manifest.architecture],
        "os": "linux",
        "config": {
            # What urunc makes the kernel's command line of.
            "Entrypoint": list(facts.entrypoint) or [facts.path],
            "Env": list(facts.environment),
            "Labels": {**annotations, **settings.labels},
            "WorkingDir": "/",
            **_exposed_ports(manifest),
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    document = manifest_document(
        layout.add_document(config, CONFIG).to_document(), [layout.add_file(archive, LAYER)], annotations=annotations
    )
    descriptor = layout.add_document(document, MANIFEST)
    layout.write_index([{**descriptor.to_document(), "annotations": {REFERENCE: "latest"}}])
    return descriptor


def _exposed_ports(manifest: Manifest) -> dict[str, Any]:
    ports: dict[str, Any] = {f"{port.guest_port}/{port.protocol}": {} for port in manifest.ports}
    return {"ExposedPorts": ports} if ports else {}


# --- urunc --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Facts:
    """What a runtime is told beside the files: `path` is that of what boots."""

    path: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    environment: Sequence[str] = ()


def _files_for_urunc(image: Path, manifest: Manifest, library_os: LibraryOs, scratch: Path) -> tuple[list[LayerFile], _Facts]:
    parts = _split(image, manifest, scratch)
    kernel = f"{_DIRECTORY}/{image.name}" if parts.initrd is None else f"{_DIRECTORY}/kernel"
    files = [LayerFile(kernel, parts.kernel, 0o755)]
    if library_os.urunc is None:
        return files, _Facts(kernel)
    values = {
        "unikernelType": library_os.urunc.type,
        "hypervisor": library_os.urunc.hypervisor,
        "binary": kernel,
        "unikernelVersion": manifest.library_os.version,
    }
    if parts.initrd is not None:
        values["initrd"] = f"{_DIRECTORY}/initrd"
        files.append(LayerFile(values["initrd"], parts.initrd))
    entrypoint = _entrypoint(manifest, library_os)
    values["cmdline"] = " ".join(entrypoint)
    annotations = {f"{_URUNC}{name}": value for name, value in values.items()}
    document = scratch / "urunc.json"
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in annotations.items()}
    document.write_text(json.dumps(encoded, indent=1, sort_keys=True) + "\n")
    return [*files, LayerFile(_URUNC_FILE, document)], _Facts(kernel, annotations, entrypoint, _environment(manifest, library_os))


def _entrypoint(manifest: Manifest, library_os: LibraryOs) -> list[str]:
    """urunc puts its own words (an address, variables) between the first of these and the others."""
    assert library_os.urunc is not None
    words = [word.format(name=manifest.name, program=manifest.start.program) for word in library_os.urunc.entrypoint]
    own = [] if library_os.command_line.in_image else manifest.start.arguments[1:]
    # A container has to start something; what ends options adds nothing.
    return [*words, *quoted_words(library_os, own)] or ["--"]


def _environment(manifest: Manifest, library_os: LibraryOs) -> list[str]:
    """A container runtime sets PATH where an image does not; our PID 1 would take that for the user's wish."""
    start = dict(variable.split("=", 1) for variable in manifest.start.environment)
    if library_os.command_line.in_image:
        return [f"PATH={start.get('PATH', USUAL_PATH)}"]
    for name, value in start.items():
        if value.split() != [value]:
            print(f"unikernel: urunc passes variables on without quotes: {name} will not arrive as it is", file=sys.stderr)
    return list(manifest.start.environment)


def _split(image: Path, manifest: Manifest, scratch: Path) -> _Parts:
    if not manifest.rootfs.packed_sha256:
        return _Parts(image)
    kernel, initrd = scratch / "kernel", scratch / "initrd"
    without_sections(image, ROOTFS_SECTION, kernel)
    with initrd.open("wb") as stream:
        read_section(image, ROOTFS_SECTION, stream)
    return _Parts(kernel, initrd)


# --- KraftKit -----------------------------------------------------------------------------------------------------


def write_kraftkit_package(image: Path, settings: PackageSettings, root: Path, scratch: Path) -> Descriptor:
    """Writes an OCI layout with an index, in which the package is for the platform that the library OS's description names."""
    manifest = read_manifest(image)
    library_os = library_os_of(manifest)
    if library_os.kraftkit is None or not manifest.rootfs.packed_sha256:
        raise UnikernelError(f"{image} is no image that KraftKit knows: it is one of {library_os.name}.")
    parts = _split(image, manifest, scratch)
    assert parts.initrd is not None
    layout = Layout(root)
    layers, diff_ids = [], []
    for name, path, source in (("image", _KRAFT_KERNEL, parts.kernel), ("initrd", _KRAFT_INITRD, parts.initrd)):
        archive = scratch / f"{name}.tar"
        diff_ids.append(
            write_files_layer([LayerFile(path, source, 0o755 if name == "image" else 0o644)], archive, compressed=False)
        )
        layers.append(layout.add_file(archive, UNCOMPRESSED_LAYER, {f"org.unikraft.kernel.{name}": path}))
    platform = {"architecture": manifest.architecture, "os": library_os.kraftkit.platform}
    config = {
        **platform,
        "created": CREATED,
        "config": {
            "Cmd": [manifest.start.program, *manifest.start.arguments[1:]],
            "Env": list(manifest.start.environment),
            "Labels": dict(settings.labels),
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    document = manifest_document(
        {**layout.add_document(config, CONFIG).to_document(), "platform": platform},
        layers,
        annotations={
            "org.unikraft.image.name": manifest.name,
            "org.unikraft.kernel.version": manifest.library_os.version,
            IMAGE_SHA256: file_sha256(image),
        },
    )
    inner = layout.add_document(document, MANIFEST)
    descriptor = layout.add_document(index_document([{**inner.to_document(), "platform": platform}]), INDEX)
    layout.write_index([{**descriptor.to_document(), "annotations": {REFERENCE: "latest"}}])
    return descriptor
