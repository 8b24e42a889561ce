"""The files that are made beside an image to vouch for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Mapping
from typing import Callable, Optional

from unikernel.errors import UnikernelError
from unikernel.signing.attestation import Attestation, same_attestation, sign_attestation, verify_attestation
from unikernel.signing.bundle import sign_bundle, verify_bundle
from unikernel.signing.files import SBOM_TYPES, bundle_path, manifest_path, provenance_path, sbom_attestation_path, sbom_path
from unikernel.signing.keys import Message
from unikernel.signing.provenance import PREDICATE_TYPE, Artifact, Build, provenance_predicate
from unikernel.signing.signer import Signer

Previous = Callable[[str], Optional[bytes]]


def nothing_previous(name: str) -> bytes | None:
    return None


def sign_image(
    image: str,
    message: Message,
    manifest: bytes,
    sboms: Mapping[str, bytes],
    build: Build,
    signer: Signer,
    previous: Previous = nothing_previous,
) -> dict[str, bytes]:
    """By name: the bundle, the provenance, and each SBOM's attestation. `image` is the image's file name, `manifest` the JSON beside it;
    `sboms` are documents by kind ("spdx", "cdx"), as they are written beside it.

    `previous` has what an earlier build made, by name. What says the same of the same image and holds by the same key stays, and nothing
    is signed.
    """
    sha256 = message.sha256.hex()
    beside = {manifest_path(image): manifest, **{sbom_path(image, kind): sbom for kind, sbom in sboms.items()}}
    byproducts = tuple(Artifact(posixpath.basename(name), hashlib.sha256(content).hexdigest()) for name, content in beside.items())
    predicate = provenance_predicate(dataclasses.replace(build, byproducts=byproducts))
    attestations = {provenance_path(image): Attestation(image, sha256, PREDICATE_TYPE, predicate)}
    for kind, sbom in sorted(sboms.items()):
        attestations[sbom_attestation_path(image, kind)] = Attestation(image, sha256, SBOM_TYPES[kind], json.loads(sbom))
    bundle = bundle_path(image)
    files = {bundle: kept_or_new_bundle(message, signer, previous(bundle))}
    for name, attestation in attestations.items():
        files[name] = _attestation(attestation, signer, previous(name))
    return files


def kept_or_new_bundle(message: Message, signer: Signer, previous: bytes | None) -> bytes:
    """Return `previous`, if it is the signature of the message by the signer's key, or else sign the message."""
    if previous is not None:
        try:
            verify_bundle(previous, message, [signer.public], "it")
            return previous
        except UnikernelError:
            pass
    return sign_bundle(message, signer)


def _attestation(attestation: Attestation, signer: Signer, previous: bytes | None) -> bytes:
    if previous is not None:
        try:
            found, _ = verify_attestation(previous, attestation.sha256, [signer.public], "it")
            if same_attestation(found, attestation):
                return previous
        except UnikernelError:
            pass
    return sign_attestation(attestation, signer)
