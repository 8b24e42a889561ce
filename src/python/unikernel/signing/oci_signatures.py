"""Signatures and attestations of an image in a registry, as cosign stores them: in both of its forms, made without a registry.

They are an OCI layout of their own, beside that of the image, with three names in it, where HEX is the digest of the image's manifest:

- `sha256-HEX.sig` and `sha256-HEX.att`: an image manifest whose layers are signatures, or attestations (cosign 1 and 2;
  sigstore/cosign, specs/SIGNATURE_SPEC.md and ATTESTATION_SPEC.md);
- `sha256-HEX`: an index of manifests that refer to the image, each with one Sigstore bundle (cosign 3; sigstore/cosign, specs/BUNDLE_SPEC.md).
  The name is where registries without the referrers API are asked for it (opencontainers/distribution-spec, "Referrers Tag Schema").
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from unikernel.oci.layout import CONFIG, EMPTY, INDEX, MANIFEST, REFERENCE, Descriptor, canonical_json
from unikernel.signing.attestation import PAYLOAD_TYPE, Attestation, sign_attestation
from unikernel.signing.bundle import MEDIA_TYPE as BUNDLE
from unikernel.signing.documents import serialize_line
from unikernel.signing.keys import Message, PublicKey
from unikernel.signing.signer import Signer

_SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
_ENVELOPE = "application/vnd.dsse.envelope.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
# What cosign 3 attests of an image that it signs.
_SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
_CREATED = "0001-01-01T00:00:00Z"

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
    layout = _Files()
    predicates: dict[str, Mapping[str, Any]] = {**signed.attestations, _SIGN_PREDICATE: {}}
    envelopes = {
        kind: sign_attestation(Attestation(signed.name, signed.sha256, kind, predicate), signer)
        for kind, predicate in sorted(predicates.items())
    }
    names = {
        f"sha256-{signed.sha256}.sig": layout.add_manifest(
            [_signature(layout, signed, name, signer) for name in _references(signed)]
        ),
        f"sha256-{signed.sha256}.att": layout.add_manifest(_attestations(layout, envelopes)),
        f"sha256-{signed.sha256}": layout.add_index(_referrers(layout, signed.image, envelopes, signer.public)),
    }
    return layout.files({name: descriptor for name, descriptor in names.items() if descriptor is not None})


def _references(signed: SignedImage) -> list[str]:
    return sorted(set(signed.repositories)) or [signed.name]


# --- cosign 1 and 2 -----------------------------------------------------------------------------------------------


def _signature(layout: _Files, signed: SignedImage, reference: str, signer: Signer) -> Descriptor:
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
    return layout.add(payload, _SIMPLE_SIGNING, {_SIGNATURE: signature})


def _attestations(layout: _Files, envelopes: Mapping[str, bytes]) -> list[Descriptor]:
    return [
        layout.add(envelope, _ENVELOPE, {_SIGNATURE: "", "predicateType": kind})
        for kind, envelope in envelopes.items()
        if kind != _SIGN_PREDICATE
    ]


# --- cosign 3 -----------------------------------------------------------------------------------------------------


def _referrers(layout: _Files, image: Descriptor, envelopes: Mapping[str, bytes], public: PublicKey) -> list[dict[str, Any]]:
    """Descriptors of manifests, as an index of referrers has them."""
    found = []
    for kind, envelope in envelopes.items():
        bundle = layout.add(_bundle(envelope, public), BUNDLE)
        annotations = {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": kind}
        manifest = layout.add_document(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": BUNDLE,
                "config": layout.add(b"{}", EMPTY).to_document(),
                "layers": [bundle.to_document()],
                "subject": image.to_document(),
                "annotations": annotations,
            },
            MANIFEST,
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


# --- the layout ---------------------------------------------------------------------------------------------------


@dataclass
class _Files:
    """An OCI layout in memory: what is in it is small."""

    _blobs: dict[str, bytes] = field(default_factory=dict)

    def add(self, content: bytes, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        descriptor = Descriptor(media_type, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), annotations or {})
        self._blobs[descriptor.blob] = content
        return descriptor

    def add_document(self, document: Any, media_type: str) -> Descriptor:
        return self.add(canonical_json(document), media_type)

    def add_manifest(self, layers: Sequence[Descriptor]) -> Descriptor | None:
        """Of an image whose layers are no archives, as cosign 1 and 2 make it."""
        if not layers:
            return None
        config = {
            "architecture": "",
            "config": {},
            "created": _CREATED,
            "history": [{"created": _CREATED} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
        return self.add_document(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.add_document(config, CONFIG).to_document(),
                "layers": [layer.to_document() for layer in layers],
            },
            MANIFEST,
        )

    def add_index(self, manifests: Sequence[Mapping[str, Any]]) -> Descriptor:
        return self.add_document({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}, INDEX)

    def files(self, names: Mapping[str, Descriptor]) -> dict[str, bytes]:
        entries = [{**descriptor.to_document(), "annotations": {REFERENCE: name}} for name, descriptor in sorted(names.items())]
        return {
            **self._blobs,
            "oci-layout": canonical_json({"imageLayoutVersion": "1.0.0"}),
            "index.json": canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}),
        }


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
            annotated = layer.get("annotations", {}).get(_SIGNATURE)
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
