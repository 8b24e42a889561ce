"""Writes OCI image layouts: directories of blobs by digest, with an index.

Specification: https://github.com/opencontainers/image-spec (v1.1), image-layout.md, descriptor.md.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unikernel.digests import file_sha256

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
UNCOMPRESSED_LAYER = "application/vnd.oci.image.layer.v1.tar"
# As OCI names them (Go's GOARCH).
ARCHITECTURES = {"aarch64": "arm64", "riscv64": "riscv64", "x86_64": "amd64"}
# What tools call an image of a layout by.
REFERENCE = "org.opencontainers.image.ref.name"
# Ours, of a unikernel's package: the image's digest, the memory that it is to be run with (bytes), and where in the layer what boots is.
IMAGE_SHA256, MEMORY, IMAGE_PATH = "unikernel.image.sha256", "unikernel.memory", "unikernel.path"
# KubeVirt: a containerDisk is one file in this directory.
DISK_DIRECTORY = "/disk"


@dataclass(frozen=True)
class Descriptor:
    """`digest` is "sha256:" and hex; `size` is in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def blob(self) -> str:
        """The path in a layout."""
        return f"blobs/{self.digest.replace(':', '/')}"

    def to_document(self) -> dict[str, Any]:
        annotations = {"annotations": dict(self.annotations)} if self.annotations else {}
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **annotations}


def only_image(index: bytes) -> Descriptor:
    """Of a layout with one image, by its index.json."""
    (document,) = json.loads(index)["manifests"]
    return Descriptor(document["mediaType"], document["digest"], document["size"])


def canonical_json(document: Any) -> bytes:
    """The same bytes for the same document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


# The file of that name.
OCI_LAYOUT = canonical_json({"imageLayoutVersion": "1.0.0"})


def manifest_document(config: Mapping[str, Any], layers: Sequence[Descriptor], **more: Any) -> dict[str, Any]:
    """`config` is a descriptor as a document."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer.to_document() for layer in layers],
        **more,
    }


def index_document(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`manifests` are descriptors as documents, each with what else the index says of it (a platform, a name)."""
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}


class _NewLayout(ABC):
    """`_write` is what kinds of layouts differ in."""

    def __init__(self) -> None:
        self._write("oci-layout", OCI_LAYOUT)

    @abstractmethod
    def _write(self, path: str, content: bytes) -> None:
        """`path` is below the layout's root."""

    def add_bytes(self, content: bytes, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        descriptor = Descriptor(media_type, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), annotations or {})
        self._write(descriptor.blob, content)
        return descriptor

    def add_document(self, document: Any, media_type: str) -> Descriptor:
        return self.add_bytes(canonical_json(document), media_type)

    def write_index(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        """As `index_document` has it."""
        self._write("index.json", canonical_json(index_document(manifests)))


class MemoryLayout(_NewLayout):
    """One whose content is small: `files` are by their paths."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        super().__init__()

    def _write(self, path: str, content: bytes) -> None:
        self.files[path] = content


class Layout(_NewLayout):
    """A new one at `root`, which must not be there yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        super().__init__()

    def _write(self, path: str, content: bytes) -> None:
        (self.root / path).write_bytes(content)

    def add_file(self, file: Path, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Moves `file` into the layout."""
        descriptor = Descriptor(media_type, f"sha256:{file_sha256(file)}", file.stat().st_size, annotations or {})
        file.replace(self.root / descriptor.blob)
        return descriptor
