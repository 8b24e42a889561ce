"""A container image of the root file system that a unikernel has: the same files, in layers that change independently.

Specification: https://github.com/opencontainers/image-spec (v1.1), config.md, layer.md. No daemon is needed to make one, and the same
inputs give the same bytes.
"""

from __future__ import annotations

import io
import json
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unikernel.errors import UnikernelError
from unikernel.image.manifest_pb2 import Start
from unikernel.image.spec import ImageSpec
from unikernel.oci.layer import Member, tar_member, write_archive
from unikernel.oci.layout import (
    ARCHITECTURES,
    CONFIG,
    LAYER,
    MANIFEST,
    REFERENCE,
    Descriptor,
    Layout,
    canonical_json,
    manifest_document,
)
from unikernel.rootfs.merge import MergedEntry, MergedRootfs

# What changes seldom comes first: its layers are shared, unpacked, by images that differ in the others.
_ORDER = ("python", "libraries", "distributions", "base", "application", "files")
# Nothing in an image says when it was made.
CREATED = "1980-01-01T00:00:00Z"


@dataclass(frozen=True)
class ContainerSettings:
    """`ports` are as OCI writes them ("8080/tcp"); `user` is a name or number, with a group after a colon; `tag` is what `docker load`
    calls the image ("greeter/unikernel:latest").
    """

    name: str
    architecture: str
    tag: str = ""
    ports: Sequence[str] = ()
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, spec: ImageSpec) -> ContainerSettings:
        """From a JSON document with `tag`, `user` and `labels`; the rest is the unikernel's, as is the user, if the document has none.
        Raises UnikernelError.
        """
        try:
            document: dict[str, Any] = json.loads(path.read_text())
            ports = [f"{port.guest_port}/{port.protocol}" for port in spec.ports]
            document["user"] = document.get("user") or spec.user
            return cls(spec.name, spec.machine, ports=ports, **document)
        except (AttributeError, TypeError, ValueError) as error:
            raise UnikernelError(f"{path} does not describe a container image: {error}.") from error


def write_container(rootfs: MergedRootfs, start: Start, settings: ContainerSettings, root: Path, scratch: Path) -> Descriptor:
    """Writes an OCI layout with the one image to `root`, and returns its manifest's descriptor."""
    layout = Layout(root)
    layers, diff_ids, history = [], [], []
    for name in sorted({entry.layer for entry in rootfs.entries.values()}, key=_position):
        archive = scratch / f"{name}.tar.gz"
        diff_ids.append(write_layer(_entries_of(rootfs, name), archive))
        layers.append(layout.add_file(archive, LAYER))
        history.append({"created": CREATED, "created_by": f"unikernel: {name}"})
    config = layout.add_document(_config(start, settings, diff_ids, history), CONFIG)
    descriptor = layout.add_document(manifest_document(config.to_document(), layers), MANIFEST)
    platform = {"architecture": ARCHITECTURES[settings.architecture], "os": "linux"}
    layout.write_index([{**descriptor.to_document(), "platform": platform, "annotations": {REFERENCE: "latest"}}])
    return descriptor


def _position(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _config(
    start: Start, settings: ContainerSettings, diff_ids: Sequence[str], history: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    config: dict[str, Any] = {
        # A program is started by its path; its argv[0] has no place here.
        "Entrypoint": [start.program, *start.arguments[1:]],
        "Env": list(start.environment),
        "WorkingDir": start.working_directory or "/",
        "Labels": {"org.opencontainers.image.title": settings.name, **settings.labels},
    }
    if settings.user:
        config["User"] = settings.user
    if settings.ports:
        config["ExposedPorts"] = {port: {} for port in settings.ports}
    return {
        "created": CREATED,
        "architecture": ARCHITECTURES[settings.architecture],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": list(history),
    }


# --- layers -------------------------------------------------------------------------------------------------------


def _entries_of(rootfs: MergedRootfs, layer: str) -> dict[str, MergedEntry]:
    """What the layer has, as far as no other layer replaces it, below directories with their final modes: so layers can be stacked in any
    order.
    """
    chosen = {path for path, entry in rootfs.entries.items() if entry.layer == layer}
    for path in tuple(chosen):
        while path != "/":
            path = posixpath.dirname(path)
            chosen.add(path)
    return {path: entry for path, entry in rootfs.entries.items() if path in chosen}


def write_layer(entries: Mapping[str, MergedEntry], path: Path) -> str:
    """Writes the entries compressed, as `write_archive` does."""
    return write_archive((_member(name, entry) for name, entry in entries.items()), path, compressed=True)


def _member(path: str, entry: MergedEntry) -> Member:
    member = tar_member(path[1:], entry.mode, size=entry.size, target=entry.target, owner=entry.owner)
    return member, entry.open() if member.isfile() else None


# --- an archive that `docker load` takes --------------------------------------------------------------------------


def write_docker_archive(root: Path, manifest: Descriptor, tag: str, path: Path) -> None:
    """A tar archive of a layout with the file that `docker load` looks for beside the OCI ones: newer ones take either."""
    document = json.loads((root / manifest.blob).read_bytes())
    description = [
        {
            "Config": _blob(document["config"]),
            "RepoTags": [tag],
            "Layers": [_blob(layer) for layer in document["layers"]],
        }
    ]
    write_archive(_docker_members(root, canonical_json(description)), path, compressed=False)


def _docker_members(root: Path, description: bytes) -> Iterator[Member]:
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if file.is_dir():
            yield tar_member(name, stat.S_IFDIR | 0o755), None
            continue
        with file.open("rb") as content:
            yield tar_member(name, stat.S_IFREG | 0o644, size=file.stat().st_size), content
    yield tar_member("manifest.json", stat.S_IFREG | 0o644, size=len(description)), io.BytesIO(description)


def _blob(descriptor: Mapping[str, Any]) -> str:
    return Descriptor(descriptor["mediaType"], descriptor["digest"], descriptor["size"]).blob
