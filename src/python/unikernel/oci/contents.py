"""Reads OCI image layouts that are to be published, and checks all that is in them first.

Specification: https://github.com/opencontainers/image-spec (v1.1), image-layout.md, descriptor.md, manifest.md, image-index.md. The
names of what is signed of an image are cosign's, and for referrers those of the distribution specification ("Referrers Tag Schema").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.oci.layout import INDEX, MANIFEST, REFERENCE, Descriptor
from unikernel.oci.repository import check_tags

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_COMPANION = re.compile(r"sha256-([0-9a-f]{64})(\.\w+)?")
SIGNATURES, ATTESTATIONS, REFERRERS = ".sig", ".att", ""
# What each kind of companion is.
_COMPANION_TYPES = {SIGNATURES: MANIFEST, ATTESTATIONS: MANIFEST, REFERRERS: INDEX}
# What registries take for sure of a manifest: distribution specification, "Pushing Manifests".
_MAXIMUM_MANIFEST_SIZE = 4 << 20
_PUBLISHED = "latest"


@dataclass(frozen=True)
class Companion:
    """What is signed or attested of the manifest `subject`; `kind` is the end of its tag."""

    subject: Descriptor
    kind: str
    descriptor: Descriptor

    @property
    def tag(self) -> str:
        return self.subject.digest.replace(":", "-") + self.kind


@dataclass(frozen=True)
class Image:
    """An image of a layout by its name. `manifests` are all that it is made of, each after what it refers to: itself last. `size` is that
    of all blobs, in bytes.
    """

    name: str
    descriptor: Descriptor
    manifests: Sequence[Descriptor]
    companions: Sequence[Companion]
    size: int


class LayoutContents:
    """A layout of which every blob was found as it should be."""

    def __init__(self, root: Path, signatures: Path | None = None) -> None:
        """Reads and checks the layout at `root`, with what is signed of it in the layout `signatures`, if that is one of its own. Raises
        UnikernelError.
        """
        self.root = root
        self._roots = [root, *([signatures] if signatures else [])]
        # Descriptors of what is checked: an image may refer to a blob several times.
        self._checked: dict[str, Descriptor] = {}
        # Of manifests and indexes, by digest.
        self._documents: dict[str, dict[str, Any]] = {}
        self._media_types: dict[str, str] = {}
        for layout in self._roots:
            if not layout.is_dir():
                raise UnikernelError(f"{layout} is no directory: name the OCI layout that was packaged.")
            self._check_version(layout)
        self.images = self._images(self._index())
        self._check_nothing_else()

    def path(self, descriptor: Descriptor) -> Path:
        return next(
            (path for path in (root / descriptor.blob for root in self._roots) if path.exists()), self.root / descriptor.blob
        )

    def blobs(self, descriptor: Descriptor) -> Path:
        """The directory of blobs that a manifest is in, with all that it refers to."""
        return self.path(descriptor).parent.parent

    def document(self, descriptor: Descriptor) -> dict[str, Any]:
        """Of a manifest or index."""
        return self._documents[descriptor.digest]

    def children(self, descriptor: Descriptor) -> list[Descriptor]:
        """What a manifest or index refers to, but for its subject."""
        document = self.document(descriptor)
        found = document["manifests"] if descriptor.media_type == INDEX else [document["config"], *document["layers"]]
        return [self._descriptor(child, descriptor.digest) for child in found]

    def manifests(self, descriptor: Descriptor) -> list[Descriptor]:
        """Those below an index, each once and after what it refers to, and the one itself."""
        found: dict[str, Descriptor] = {}
        self._collect(descriptor, found)
        return list(found.values())

    def _collect(self, descriptor: Descriptor, found: dict[str, Descriptor]) -> None:
        if descriptor.digest in found:
            return
        if descriptor.media_type == INDEX:
            for child in self.children(descriptor):
                self._collect(child, found)
        found[descriptor.digest] = descriptor

    def size(self, descriptor: Descriptor) -> int:
        """Of all that it is made of, in bytes."""
        blobs = {blob.digest: blob.size for manifest in self.manifests(descriptor) for blob in (manifest, *self._blobs(manifest))}
        return sum(blobs.values())

    def _blobs(self, manifest: Descriptor) -> list[Descriptor]:
        return [] if manifest.media_type == INDEX else self.children(manifest)

    def _error(self, problem: str) -> UnikernelError:
        return UnikernelError(f"The OCI layout {self.root} is broken: {problem}. Nothing was published; package it again.")

    # --- the layout's own files ---

    def _check_version(self, root: Path) -> None:
        version = self._json(root / "oci-layout", "oci-layout").get("imageLayoutVersion")
        if version != "1.0.0":
            raise self._error(f"oci-layout has version {version!r}, not '1.0.0'")

    def _index(self) -> list[tuple[str, Descriptor]]:
        """Names and descriptors."""
        documents: list[Any] = []
        for root in self._roots:
            index = self._json(root / "index.json", "index.json")
            if index.get("schemaVersion") != 2 or not isinstance(index.get("manifests"), list):
                raise self._error("index.json is no OCI index")
            documents += index["manifests"]
        entries: dict[str, Descriptor] = {}
        for document in documents:
            descriptor = self._descriptor(document, "index.json")
            name = descriptor.annotations.get(REFERENCE)
            if not isinstance(name, str) or not name:
                raise self._error(f"index.json has no name ({REFERENCE}) for {descriptor.digest}")
            if name in entries:
                raise self._error(f"index.json has the name {name!r} twice")
            entries[name] = descriptor
        return list(entries.items())

    def _json(self, path: Path, name: str) -> dict[str, Any]:
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise self._error(f"it has no {name}") from None
        except OSError as error:
            raise self._error(f"{name} cannot be read: {error.strerror}") from None
        except (RecursionError, ValueError):
            raise self._error(f"{name} is not JSON") from None
        if not isinstance(document, dict):
            raise self._error(f"{name} is no JSON object")
        return document

    def _check_nothing_else(self) -> None:
        for root in self._roots:
            for path in sorted((root / "blobs").glob("*/*")):
                if f"{path.parent.name}:{path.name}" not in self._checked:
                    raise self._error(f"nothing refers to {path.relative_to(root)}")

    # --- what the index names ---

    def _images(self, entries: Sequence[tuple[str, Descriptor]]) -> list[Image]:
        images, companions = [], []
        for name, descriptor in entries:
            match = _COMPANION.fullmatch(name)
            if match is None:
                try:
                    check_tags([name])
                except UnikernelError as error:
                    raise self._error(f"index.json has a name that cannot be a tag: {error}") from None
                self._check_manifest(descriptor, name)
                images.append((name, descriptor))
            else:
                companions.append((name, f"sha256:{match[1]}", match[2] or "", descriptor))
        if _PUBLISHED not in {name for name, _ in images}:
            raise self._error(f"index.json names no image {_PUBLISHED!r}")
        subjects = {manifest.digest: manifest for _, image in images for manifest in self.manifests(image)}
        found: dict[str, list[Companion]] = {}
        for name, digest, kind, descriptor in companions:
            if digest not in subjects:
                raise self._error(f"{name} is about {digest}, which is no image of it")
            found.setdefault(digest, []).append(self._companion(name, subjects[digest], kind, descriptor))
        self._check_subjects(subjects)
        return [self._image(name, descriptor, found) for name, descriptor in images]

    def _image(self, name: str, descriptor: Descriptor, companions: Mapping[str, Sequence[Companion]]) -> Image:
        manifests = self.manifests(descriptor)
        own = [companion for manifest in manifests for companion in companions.get(manifest.digest, ())]
        return Image(name, descriptor, manifests, own, self.size(descriptor))

    def _companion(self, name: str, subject: Descriptor, kind: str, descriptor: Descriptor) -> Companion:
        if descriptor.media_type != _COMPANION_TYPES.get(kind):
            expected = _COMPANION_TYPES.get(kind, "anything that is known by such a name")
            raise self._error(f"{name} is {descriptor.media_type}, not {expected}")
        self._check_manifest(descriptor, name)
        if kind == REFERRERS:
            for child in self.children(descriptor):
                if child.media_type != MANIFEST:
                    raise self._error(f"{name} refers to {child.digest}, which is {child.media_type}, not {MANIFEST}")
                about = self.document(child).get("subject")
                if about is None or self._descriptor(about, child.digest).digest != subject.digest:
                    raise self._error(f"{name} refers to {child.digest}, whose subject is not {subject.digest}")
        return Companion(subject, kind, descriptor)

    def _check_subjects(self, subjects: Mapping[str, Descriptor]) -> None:
        for digest, document in self._documents.items():
            if document.get("subject") is None:
                continue
            about = self._descriptor(document["subject"], digest)
            subject = subjects.get(about.digest)
            if subject is None:
                raise self._error(f"{digest} is about {about.digest}, which is no image of it")
            if (subject.media_type, subject.size) != (about.media_type, about.size):
                raise self._error(f"{digest} gives another size or media type for {about.digest} than it has")

    # --- blobs ---

    def _descriptor(self, document: Any, where: str) -> Descriptor:
        try:
            media_type, digest, size = document["mediaType"], document["digest"], document["size"]
            annotations = document.get("annotations") or {}
        except (AttributeError, KeyError, TypeError):
            raise self._error(f"{where} has a descriptor without mediaType, digest or size") from None
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise self._error(f"{where} has {digest!r} for a digest, which is no SHA-256")
        if not isinstance(media_type, str) or type(size) is not int or size < 0 or not isinstance(annotations, dict):
            raise self._error(f"{where} has a descriptor of {digest} with a wrong media type, size or annotations")
        return Descriptor(media_type, digest, size, annotations)

    def _check_blob(self, descriptor: Descriptor, where: str) -> None:
        known = self._checked.setdefault(descriptor.digest, descriptor)
        if known is not descriptor:
            if known.size != descriptor.size:
                raise self._error(f"{where} gives {descriptor.size} bytes for {descriptor.digest}, which has {known.size}")
            return
        path = self.path(descriptor)
        if not path.is_file():
            raise self._error(f"{descriptor.blob}, which {where} refers to, is not there")
        if path.stat().st_size != descriptor.size:
            raise self._error(f"{descriptor.blob} has {path.stat().st_size} bytes, but {where} gives {descriptor.size}")
        digest = file_sha256(path)
        if f"sha256:{digest}" != descriptor.digest:
            raise self._error(f"{descriptor.blob} has the digest sha256:{digest}")

    def _check_manifest(self, descriptor: Descriptor, where: str) -> None:
        """And all that it refers to."""
        if descriptor.media_type not in (INDEX, MANIFEST):
            raise self._error(f"{where} refers to {descriptor.digest} as {descriptor.media_type}, not as an OCI manifest or index")
        if descriptor.size > _MAXIMUM_MANIFEST_SIZE:
            raise self._error(f"{descriptor.digest} has more than {_MAXIMUM_MANIFEST_SIZE} bytes, which registries do not take")
        self._check_blob(descriptor, where)
        if descriptor.digest in self._documents:
            if self._media_types[descriptor.digest] != descriptor.media_type:
                raise self._error(f"{where} refers to {descriptor.digest} by another media type than it is known by")
            return
        document = self._json(self.path(descriptor), descriptor.blob)
        self._documents[descriptor.digest] = document
        self._media_types[descriptor.digest] = descriptor.media_type
        if document.get("schemaVersion") != 2 or document.get("mediaType", descriptor.media_type) != descriptor.media_type:
            raise self._error(f"{descriptor.blob} is no {descriptor.media_type}, as {where} says")
        needed = ("manifests",) if descriptor.media_type == INDEX else ("config", "layers")
        if any(not isinstance(document.get(name), dict if name == "config" else list) for name in needed):
            raise self._error(f"{descriptor.blob} lacks {' or '.join(needed)}")
        for child in self.children(descriptor):
            if descriptor.media_type == INDEX:
                self._check_manifest(child, descriptor.digest)
            else:
                self._check_blob(child, descriptor.digest)
