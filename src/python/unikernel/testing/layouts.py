"""OCI layouts as they are packaged, for tests."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unikernel.oci.cosign import ENVELOPE, SIGNATURE, SIMPLE_SIGNING
from unikernel.oci.layout import (
    CONFIG,
    EMPTY,
    INDEX,
    MANIFEST,
    REFERENCE,
    Descriptor,
    Layout,
    index_document,
    manifest_document,
)
from unikernel.signing.bundle import MEDIA_TYPE as BUNDLE


@dataclass
class SampleLayout:
    """A layout to which images are added; `write` ends it."""

    root: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = Layout(self.root)

    def name(self, descriptor: Descriptor, name: str) -> Descriptor:
        self.entries.append({**descriptor.to_document(), "annotations": {REFERENCE: name}})
        return descriptor

    def manifest(self, blobs: Sequence[Descriptor], config: Descriptor | None = None, **more: Any) -> Descriptor:
        """An image whose configuration is no container's, if none is given."""
        config = config or self.layout.add_bytes(b'{"kernel":"linux"}', "application/vnd.unikernel.config.v1+json")
        return self.layout.add_document(manifest_document(config.to_document(), blobs, **more), MANIFEST)

    def index(self, manifests: Sequence[Descriptor]) -> Descriptor:
        return self.layout.add_document(index_document([manifest.to_document() for manifest in manifests]), INDEX)

    def blob(self, size: int, seed: int = 0, media_type: str = "application/vnd.unikernel.image.v1") -> Descriptor:
        """Of bytes that do not compress."""
        return self.layout.add_bytes(random.Random(seed).getrandbits(8 * size).to_bytes(size, "little"), media_type)

    def image(self, *sizes: int, seed: int = 0) -> Descriptor:
        """With blobs of those sizes."""
        return self.manifest([self.blob(size, seed + number) for number, size in enumerate(sizes)])

    def sign(self, image: Descriptor, signature: str = "c2lnbmF0dXJl") -> None:
        """Companions of all kinds; what they say is of the form only."""
        stem = image.digest.replace(":", "-")
        payload = json.dumps({"critical": {"image": {"docker-manifest-digest": image.digest}}}).encode()
        signed = self.layout.add_bytes(payload, SIMPLE_SIGNING, {SIGNATURE: signature})
        config = self.layout.add_document({"rootfs": {"type": "layers", "diff_ids": [signed.digest]}}, CONFIG)
        self.name(self.manifest([signed], config), f"{stem}.sig")
        envelope = self.layout.add_bytes(b'{"payload":"","signatures":[]}', ENVELOPE)
        self.name(self.manifest([envelope], config), f"{stem}.att")
        self.name(self.index([self.referrer(image, b'{"bundle":1}')]), stem)

    def referrer(self, image: Descriptor, bundle: bytes) -> Descriptor:
        """As cosign 3 has bundles."""
        empty = self.layout.add_bytes(b"{}", EMPTY)
        subject = {"mediaType": image.media_type, "digest": image.digest, "size": image.size}
        return self.manifest([self.layout.add_bytes(bundle, BUNDLE)], empty, artifactType=BUNDLE, subject=subject)

    def write(self) -> Path:
        self.layout.write_index(self.entries)
        return self.root


def sample_layout(root: Path, *sizes: int, signed: bool = False) -> tuple[Path, Descriptor]:
    """One image, `latest`."""
    sample = SampleLayout(root)
    image = sample.name(sample.image(*(sizes or (1000,))), "latest")
    if signed:
        sample.sign(image)
    return sample.write(), image


def read_document(root: Path, descriptor: Descriptor) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads((root / descriptor.blob).read_bytes())
    return document
