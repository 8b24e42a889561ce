"""Publishes OCI layouts: pushes images to registries, with what is signed and attested of them.

The order leaves nothing half-done visible: first the image by its digest, then signatures, attestations and referrers, and its tags last.
Whatever interrupts that leaves no tag that points at nothing, and none on an image whose signatures are not there yet.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from unikernel.errors import UnikernelError
from unikernel.oci.contents import ATTESTATIONS, REFERRERS, SIGNATURES, Companion, Image, LayoutContents
from unikernel.oci.cosign import SIGNATURE, signatures_config
from unikernel.oci.credentials import find_credentials
from unikernel.oci.layout import CONFIG, INDEX, MANIFEST, Descriptor, canonical_json
from unikernel.oci.registry import Manifest, RefusedError, RegistryClient
from unikernel.oci.repository import Repository, check_tags
from unikernel.oci.skopeo import Skopeo

# Of two that publish at once, one may write over what the other has merged: both look again.
_ATTEMPTS = 5
_KINDS = {SIGNATURES: "signatures", ATTESTATIONS: "attestations", REFERRERS: "referrers"}


@dataclass(frozen=True)
class Published:
    """An image of a layout in a repository. `signed` is by the kind of what is there beside the image: the digests of signature and
    attestation layers and of referrers that this layout has.
    """

    repository: Repository
    image: Image
    tags: Sequence[str]
    signed: Mapping[str, Sequence[str]]

    @property
    def reference(self) -> str:
        return f"{self.repository}@{self.image.descriptor.digest}"

    def to_text(self) -> str:
        return f"pushed {self.reference} (tags {', '.join(self.tags)})"

    def to_document(self) -> dict[str, Any]:
        """`size` is the manifest's, as in a descriptor; `total_size` is that of all blobs; in bytes."""
        return {
            "reference": self.reference,
            "registry": self.repository.host,
            "repository": self.repository.path,
            "name": self.image.name,
            "tags": list(self.tags),
            "media_type": self.image.descriptor.media_type,
            "digest": self.image.descriptor.digest,
            "size": self.image.descriptor.size,
            "total_size": self.image.size,
            **{kind: list(self.signed.get(kind, ())) for kind in _KINDS.values()},
        }


def publish(
    root: Path, repositories: Sequence[Repository], tags: Sequence[str], skopeo: str, signatures: Path | None = None
) -> list[Published]:
    """Publishes the layout at `root` to each repository: `latest` by the tags, any other image NAME of it by TAG-NAME. `signatures` is the
    layout with what is signed of it, if that is not in it. Tells on standard error what is sent. Raises UnikernelError.
    """
    contents = LayoutContents(root, signatures)
    for image in contents.images:
        check_tags(_tags(image, tags))
    # What is wrong with the credentials for one is said before anything is sent to another.
    publishers = [_Publisher(contents, repository, skopeo) for repository in dict.fromkeys(repositories)]
    return [image for publisher in publishers for image in publisher.publish(tags)]


def write_result(published: Sequence[Published], output: Path) -> None:
    """The file is there as a whole or not at all."""
    document = {"images": [image.to_document() for image in published]}
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UnikernelError(f"All is published, but {output} cannot be written: {error.strerror}.") from None


def _tags(image: Image, tags: Sequence[str]) -> list[str]:
    return [tag if image.name == "latest" else f"{tag}-{image.name}" for tag in dict.fromkeys(tags)]


class _Publisher:
    """Of a layout to one repository."""

    def __init__(self, contents: LayoutContents, repository: Repository, skopeo: str) -> None:
        credentials = find_credentials(repository)
        self._contents = contents
        self._repository = repository
        self._client = RegistryClient(repository, credentials)
        self._skopeo = Skopeo(skopeo, repository, credentials)

    def publish(self, tags: Sequence[str]) -> list[Published]:
        self._client.connect()
        images = self._contents.images
        for image in images:
            self._push_image(image)
        for image in images:
            for companion in image.companions:
                self._push_companion(companion)
        for image in images:
            for tag in _tags(image, tags):
                self._set_tag(tag, image.descriptor)
        return [Published(self._repository, image, _tags(image, tags), self._signed(image)) for image in images]

    def _say(self, text: str) -> None:
        print(f"{self._repository}: {text}", file=sys.stderr, flush=True)

    # --- by digest ---

    def _push_image(self, image: Image) -> None:
        for manifest in image.manifests:
            self._push(manifest, f"image {image.name}")

    def _push(self, descriptor: Descriptor, what: str) -> None:
        """What a registry has by its digest it has with all blobs: it takes no manifest without them."""
        if self._client.manifest(descriptor.digest) is not None:
            self._say(f"{what} {descriptor.digest} is there already")
            return
        self._say(f"pushing {what} {descriptor.digest} ({_readable(self._contents.size(descriptor))})")
        self._send(descriptor, self._contents.blobs(descriptor))

    def _send(self, descriptor: Descriptor, blobs: Path) -> None:
        if descriptor.media_type == INDEX:
            manifest = Manifest(INDEX, (blobs.parent / descriptor.blob).read_bytes())
            try:
                self._client.put_manifest(descriptor.digest, manifest)
            except RefusedError as error:
                raise UnikernelError(f"{self._repository} does not take the index {descriptor.digest} ({error}).") from None
        else:
            self._skopeo.push(descriptor, blobs)
        if self._client.manifest(descriptor.digest) is None:
            raise UnikernelError(
                f"{self._repository} has taken {descriptor.digest}, but does not give it: it stores the manifest by another digest, for "
                "which no signature holds. No tag was set; use a registry that keeps manifests as they are."
            )

    # --- what is signed ---

    def _push_companion(self, companion: Companion) -> None:
        if companion.kind != REFERRERS:
            self._merge(companion, lambda theirs: _with_signatures(theirs, self._layers(companion)))
            return
        referrers = self._contents.children(companion.descriptor)
        for referrer in referrers:
            self._push(referrer, "referrer")
        if not self._client.has_referrers_api(companion.subject.digest):
            entries = self._contents.document(companion.descriptor)["manifests"]
            self._merge(companion, lambda theirs: _with_referrers(theirs, entries))

    def _layers(self, companion: Companion) -> list[dict[str, Any]]:
        return list(self._contents.document(companion.descriptor)["layers"])

    def _merge(self, companion: Companion, merge: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
        """Adds what the layout has to what others have put at the companion's tag. `merge` gives nothing if nothing is to be added."""
        for _ in range(_ATTEMPTS):
            there = self._client.manifest(companion.tag)
            if there is None:
                self._set_companion(companion, companion.descriptor, self._contents.blobs(companion.descriptor))
                continue
            try:
                theirs = json.loads(there.content)
                merged = merge(theirs)
            except (AttributeError, KeyError, TypeError, ValueError):
                raise UnikernelError(
                    f"{self._repository}:{companion.tag} is not what cosign puts there ({there.media_type}), and is left as it is: "
                    "delete that tag."
                ) from None
            if merged is None:
                return
            with tempfile.TemporaryDirectory(prefix="unikernel-") as directory:
                blobs = Path(directory) / "blobs"
                descriptor = self._write_merged(merged, companion, blobs)
                self._set_companion(companion, descriptor, blobs)
        raise UnikernelError(f"{self._repository}:{companion.tag} is written over by others again and again: try again later.")

    def _write_merged(self, merged: dict[str, Any], companion: Companion, blobs: Path) -> Descriptor:
        """`blobs` gets what is merged and what the layout has. What others have is in the repository, where skopeo finds it."""
        (blobs / "sha256").mkdir(parents=True)
        for blob in self._contents.children(companion.descriptor):
            path = blobs.parent / blob.blob
            if not path.is_symlink():
                path.symlink_to(self._contents.path(blob).resolve())
        if merged["mediaType"] == INDEX:
            return _add_blob(blobs, canonical_json(merged), INDEX)
        config = _add_blob(blobs, canonical_json(signatures_config([layer["digest"] for layer in merged["layers"]])), CONFIG)
        return _add_blob(blobs, canonical_json({**merged, "config": config.to_document()}), MANIFEST)

    def _set_companion(self, companion: Companion, descriptor: Descriptor, blobs: Path) -> None:
        self._say(f"pushing {_KINDS[companion.kind]} of {companion.subject.digest}")
        if descriptor.media_type == MANIFEST:
            self._send(descriptor, blobs)
        self._put_tag(companion.tag, Manifest(descriptor.media_type, (blobs.parent / descriptor.blob).read_bytes()))

    def _signed(self, image: Image) -> dict[str, list[str]]:
        signed: dict[str, list[str]] = {}
        for companion in image.companions:
            children = self._contents.children(companion.descriptor)
            # The first one of a manifest is its configuration.
            digests = [child.digest for child in (children if companion.kind == REFERRERS else children[1:])]
            signed.setdefault(_KINDS[companion.kind], []).extend(digests)
        return signed

    # --- tags ---

    def _set_tag(self, tag: str, descriptor: Descriptor) -> None:
        there = self._client.manifest(tag)
        if there is not None and there.digest == descriptor.digest:
            self._say(f"tag {tag} is that already")
            return
        self._say(f"setting tag {tag}" + (f", which was {there.digest}" if there else ""))
        self._put_tag(tag, Manifest(descriptor.media_type, self._contents.path(descriptor).read_bytes()), there)
        there = self._client.manifest(tag)
        if there is None or there.digest != descriptor.digest:
            found = there.digest if there else "nothing"
            raise UnikernelError(
                f"{self._repository}:{tag} is {found} after it was set to {descriptor.digest}: somebody else sets it, or the registry "
                "changes manifests."
            )

    def _put_tag(self, tag: str, manifest: Manifest, there: Manifest | None = None) -> None:
        try:
            self._client.put_manifest(tag, manifest)
        except RefusedError as error:
            state = f"; it stays {there.digest}" if there else ""
            raise UnikernelError(
                f"{self._repository}:{tag} is not set to {manifest.digest}: the registry refuses it ({error}){state}. If tags are immutable "
                "there, use a new one; if the account may not set this one, use another."
            ) from None


# --- what is merged -----------------------------------------------------------------------------------------------


def _with_signatures(theirs: Mapping[str, Any], ours: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """As cosign adds a signature or attestation: one more layer of the manifest."""
    layers = list(theirs["layers"])
    known = {_signature(layer) for layer in layers}
    added = [layer for layer in ours if _signature(layer) not in known]
    return {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers + added} if added else None


def _signature(layer: Mapping[str, Any]) -> tuple[str, str]:
    """What tells signatures from each other: those over the same payload have one digest."""
    return (layer["digest"], (layer.get("annotations") or {}).get(SIGNATURE, ""))


def _with_referrers(theirs: Mapping[str, Any], ours: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Distribution specification, "Pushing Manifests with Subject"."""
    entries = list(theirs["manifests"])
    known = {entry["digest"] for entry in entries}
    added = [entry for entry in ours if entry["digest"] not in known]
    return {**theirs, "schemaVersion": 2, "mediaType": INDEX, "manifests": entries + added} if added else None


def _add_blob(blobs: Path, content: bytes, media_type: str) -> Descriptor:
    descriptor = Descriptor(media_type, Manifest(media_type, content).digest, len(content))
    (blobs.parent / descriptor.blob).write_bytes(content)
    return descriptor


def _readable(size: int) -> str:
    return f"{size} bytes" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"
