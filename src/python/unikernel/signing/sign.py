"""The files that are made beside an image to vouch for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Mapping

from unikernel.signing.attestation import Attestation, sign_attestation
from unikernel.signing.bundle import sign_bundle
from unikernel.signing.keys import Message
from unikernel.signing.provenance import PREDICATE_TYPE, Artifact, Build, provenance_predicate
from unikernel.signing.signer import Signer
from unikernel.signing.verify import SBOM_TYPES


def sign_image(
    image: str, message: Message, manifest: bytes, sboms: Mapping[str, bytes], build: Build, signer: Signer
) -> dict[str, bytes]:
    """By name: the bundle, the provenance, and each SBOM's attestation. `image` is the image's file name, `manifest` the JSON beside it;
    `sboms` are documents by kind ("spdx", "cdx"), as they are written beside it.
    """
    stem = posixpath.splitext(image)[0]
    sha256 = message.sha256.hex()
    beside = {f"{stem}.json": manifest, **{f"{stem}.{kind}.json": sbom for kind, sbom in sboms.items()}}
    byproducts = tuple(Artifact(name, hashlib.sha256(content).hexdigest()) for name, content in beside.items())
    predicate = provenance_predicate(dataclasses.replace(build, byproducts=byproducts))
    files = {
        f"{image}.sigstore.json": sign_bundle(message, signer),
        f"{image}.intoto.jsonl": sign_attestation(Attestation(image, sha256, PREDICATE_TYPE, predicate), signer),
    }
    for kind, sbom in sorted(sboms.items()):
        attestation = Attestation(image, sha256, SBOM_TYPES[kind], json.loads(sbom))
        files[f"{image}.{kind}.intoto.jsonl"] = sign_attestation(attestation, signer)
    return files
