"""Signatures and attestations of an image in a registry, as cosign stores them: in both of its forms, made without a registry.

They are an OCI layout of their own, beside that of the image, with three names in it, where HEX is the digest of the image's manifest:

- `sha256-HEX.sig` and `sha256-HEX.att`: an image manifest whose layers are signatures, or attestations (cosign 1 and 2;
  sigstore/cosign, specs/SIGNATURE_SPEC.md and ATTESTATION_SPEC.md);
- `sha256-HEX`: an index of manifests that refer to the image, each with one Sigstore bundle (cosign 3; sigstore/cosign, specs/BUNDLE_SPEC.md).
  The name is where registries without the referrers API are asked for it (opencontainers/distribution-spec, "Referrers Tag Schema").
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

from unikernel.oci.cosign import ENVELOPE, SIGNATURE, SIMPLE_SIGNING, signatures_config
from unikernel.oci.layout import (
    CONFIG,
    EMPTY,
    INDEX,
    MANIFEST,
    REFERENCE,
    Descriptor,
    MemoryLayout,
    canonical_json,
    index_document,
    manifest_document,
)
from unikernel.signing.attestation import PAYLOAD_TYPE, Attestation, sign_attestation
from unikernel.signing.bundle import MEDIA_TYPE as BUNDLE
from unikernel.signing.documents import serialize_line
from unikernel.signing.keys import Message, PublicKey
from unikernel.signing.signer import Signer

# What cosign 3 attests of an image that it signs.
_SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"

ReadFile = Callable[[str], Optional[bytes]]


@dataclass(frozen=True)
class SignedImage:
    """`repositories` are where it is to be pushed to, such as "registry.example.com/team/service": each is named in a signature of its own.
    `attestations` are predicates by the URIs of their types.
    """

    image: Descriptor
    name: str
    repositories: Sequence[str]
    attestations: Mapping[str, Mapping[str, Any]]

    @property
    def sha256(self) -> str:
        return self.image.digest.partition(":")[2]


def sign_in_registry(signed: SignedImage, signer: Signer, previous: ReadFile) -> dict[str, bytes]:
    """The files of the layout, by path. `previous` reads those of the layout that an earlier build made: signatures in it that hold for
    the same content by the same key are used again, and nothing is signed.
    """
    signer = _Sparing(signer, [*_signatures_in(previous)])
    layout = MemoryLayout()
    predicates: dict[str, Mapping[str, Any]] = {**signed.attestations, _SIGN_PREDICATE: {}}
    envelopes = {
        kind: sign_attestation(Attestation(signed.name, signed.sha256, kind, predicate), signer)
        for kind, predicate in sorted(predicates.items())
    }
    # By the ending of their names.
    companions = {
        "": layout.add_document(index_document(_referrers(layout, signed.image, envelopes, signer.public)), INDEX),
        ".att": _add_manifest(layout, _attestations(layout, envelopes)),
        ".sig": _add_manifest(layout, [_signature(layout, signed, name, signer) for name in _references(signed)]),
    }
    layout.write_index(
        [
            {**descriptor.to_document(), "annotations": {REFERENCE: f"sha256-{signed.sha256}{ending}"}}
            for ending, descriptor in companions.items()
            if descriptor is not None
        ]
    )
    return layout.files


def _references(signed: SignedImage) -> list[str]:
    return sorted(set(signed.repositories)) or [signed.name]


# --- cosign 1 and 2 -----------------------------------------------------------------------------------------------


def _signature(layout: MemoryLayout, signed: SignedImage, reference: str, signer: Signer) -> Descriptor:
    """containers/image, docs/containers-signature.5.md: the "simple signing" payload."""
    payload = canonical_json(
        {
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": signed.image.digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    signature = base64.b64encode(signer.sign(Message.of(payload))).decode()
    return layout.add_bytes(payload, SIMPLE_SIGNING, {SIGNATURE: signature})


def _attestations(layout: MemoryLayout, envelopes: Mapping[str, bytes]) -> list[Descriptor]:
    return [
        layout.add_bytes(envelope, ENVELOPE, {SIGNATURE: "", "predicateType": kind})
        for kind, envelope in envelopes.items()
        if kind != _SIGN_PREDICATE
    ]


def _add_manifest(layout: MemoryLayout, layers: Sequence[Descriptor]) -> Descriptor | None:
    if not layers:
        return None
    config = layout.add_document(signatures_config([layer.digest for layer in layers]), CONFIG)
    return layout.add_document(manifest_document(config.to_document(), layers), MANIFEST)


# --- cosign 3 -----------------------------------------------------------------------------------------------------


def _referrers(layout: MemoryLayout, image: Descriptor, envelopes: Mapping[str, bytes], public: PublicKey) -> list[dict[str, Any]]:
    """Descriptors of manifests, as an index of referrers has them."""
    found = []
    for kind, envelope in envelopes.items():
        bundle = layout.add_bytes(_bundle(envelope, public), BUNDLE)
        annotations = {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": kind}
        empty = layout.add_bytes(b"{}", EMPTY).to_document()
        manifest = layout.add_document(
            manifest_document(empty, [bundle], artifactType=BUNDLE, subject=image.to_document(), annotations=annotations), MANIFEST
        )
        found.append({**manifest.to_document(), "artifactType": BUNDLE, "annotations": annotations})
    return found


def _bundle(envelope: bytes, public: PublicKey) -> bytes:
    document = json.loads(envelope)
    return serialize_line(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": public.hint}},
            "dsseEnvelope": {
                "payload": document["payload"],
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": document["signatures"][0]["sig"]}],
            },
        }
    )


# --- signatures of an earlier build -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sparing:
    """A signer that looks among signatures that are there before it signs: a command that signs may ask a person, or cost money."""

    signer: Signer
    known: Sequence[bytes]

    @property
    def public(self) -> PublicKey:
        return self.signer.public

    def sign(self, message: Message) -> bytes:
        for signature in self.known:
            if self.public.verifies(signature, message):
                return signature
        return self.signer.sign(message)


def _signatures_in(previous: ReadFile) -> Iterator[bytes]:
    """All that look like one: whether they hold is seen when they are used. What cannot be read has none."""

    def document(path: str) -> Any:
        try:
            return json.loads(previous(path) or b"{}")
        except ValueError:
            return {}

    def search(found: Any) -> Iterator[bytes]:
        for entry in found.get("manifests", ()):
            yield from search(document(Descriptor("", entry["digest"], 0).blob))
        for layer in found.get("layers", ()):
            annotated = layer.get("annotations", {}).get(SIGNATURE)
            if annotated:
                yield base64.b64decode(annotated)
            else:
                envelope = document(Descriptor("", layer["digest"], 0).blob)
                for signature in envelope.get("dsseEnvelope", envelope).get("signatures", ()):
                    yield base64.b64decode(signature["sig"])

    try:
        yield from search(document("index.json"))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return
