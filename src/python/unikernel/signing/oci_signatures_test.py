from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from unikernel.oci.layout import MANIFEST, Descriptor
from unikernel.signing.attestation import verify_attestation
from unikernel.signing.keys import Message, PrivateKey, PublicKey
from unikernel.signing.oci_signatures import SignedImage, sign_in_registry

_DIGEST = f"sha256:{'ab' * 32}"
_HEX = "ab" * 32
_PREDICATES: dict[str, Mapping[str, Any]] = {"https://slsa.dev/provenance/v1": {"a": 1}, "https://spdx.dev/Document": {"b": 2}}
_SIGNED = SignedImage(Descriptor(MANIFEST, _DIGEST, 500), "hello", ["example.com/b", "example.com/a"], _PREDICATES)


def _key(kind: str = "ecdsa") -> PrivateKey:
    if kind == "ed25519":
        ed25519_key = ed25519.Ed25519PrivateKey.generate()
        return PrivateKey(PublicKey.of(ed25519_key.public_key(), "it"), ed25519_key)
    ecdsa_key = ec.generate_private_key(ec.SECP256R1())
    return PrivateKey(PublicKey.of(ecdsa_key.public_key(), "it"), ecdsa_key)


def _nothing(path: str) -> bytes | None:
    return None


def _named(files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        entry["annotations"]["org.opencontainers.image.ref.name"]: _document(files, entry)
        for entry in json.loads(files["index.json"])["manifests"]
    }


def _blob(files: Mapping[str, bytes], descriptor: Mapping[str, Any]) -> bytes:
    content = files[Descriptor("", descriptor["digest"], 0).blob]
    assert (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}") == (descriptor["size"], descriptor["digest"])
    return content


def _document(files: Mapping[str, bytes], descriptor: Mapping[str, Any]) -> Any:
    return json.loads(_blob(files, descriptor))


@pytest.mark.parametrize("kind", ["ecdsa", "ed25519"])
def test_each_repository_is_named_in_a_signature(kind: str) -> None:
    key = _key(kind)
    files = sign_in_registry(_SIGNED, key, _nothing)
    layers = _named(files)[f"sha256-{_HEX}.sig"]["layers"]
    references = []
    for layer in layers:
        payload = _blob(files, layer)
        signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
        assert key.public.verifies(signature, Message.of(payload))
        critical = json.loads(payload)["critical"]
        assert critical["image"] == {"docker-manifest-digest": _DIGEST}
        references.append(critical["identity"]["docker-reference"])
    assert references == ["example.com/a", "example.com/b"]


def test_attestations_in_both_forms_are_about_the_manifest() -> None:
    key = _key()
    files = sign_in_registry(_SIGNED, key, _nothing)
    named = _named(files)
    for layer in named[f"sha256-{_HEX}.att"]["layers"]:
        attestation, _ = verify_attestation(_blob(files, layer), _HEX, [key.public], "it")
        assert layer["annotations"]["predicateType"] == attestation.predicate_type
        assert attestation.predicate == _PREDICATES[attestation.predicate_type]
    types = []
    for entry in named[f"sha256-{_HEX}"]["manifests"]:
        manifest = _document(files, entry)
        assert manifest["subject"] == {"mediaType": MANIFEST, "digest": _DIGEST, "size": 500}
        assert manifest["artifactType"] == entry["artifactType"] == manifest["layers"][0]["mediaType"]
        bundle = _document(files, manifest["layers"][0])
        assert bundle["verificationMaterial"] == {"publicKey": {"hint": key.public.hint}}
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        assert statement["subject"] == [{"digest": {"sha256": _HEX}, "name": "hello"}]
        types.append(statement["predicateType"])
    assert types == sorted([*_PREDICATES, "https://sigstore.dev/cosign/sign/v1"])


def test_nothing_is_signed_again_that_holds() -> None:
    class Counting:
        def __init__(self, key: PrivateKey) -> None:
            self.key, self.signed = key, 0

        @property
        def public(self) -> PublicKey:
            return self.key.public

        def sign(self, message: Message) -> bytes:
            self.signed += 1
            return self.key.sign(message)

    signer = Counting(_key())
    files = sign_in_registry(_SIGNED, signer, _nothing)
    # Two repositories, two attestations, and what cosign 3 attests; an envelope serves both forms.
    assert signer.signed == 5
    assert sign_in_registry(_SIGNED, signer, files.get) == files
    assert signer.signed == 5
    other = SignedImage(_SIGNED.image, "hello", ["example.com/a"], {**_PREDICATES, "https://spdx.dev/Document": {"b": 3}})
    sign_in_registry(other, signer, files.get)
    assert signer.signed == 6


@pytest.mark.parametrize(
    "damaged", [b"", b"[]", b"{", b'{"manifests": [{"digest": 1}]}', b'{"manifests": [{"digest": "x"}]}', b'{"layers": [{}]}']
)
def test_an_earlier_layout_that_is_damaged_does_not_matter(damaged: bytes) -> None:
    key = _key()
    assert sign_in_registry(_SIGNED, key, lambda path: damaged) == sign_in_registry(_SIGNED, key, _nothing)


def test_without_a_repository_the_image_is_named() -> None:
    files = sign_in_registry(SignedImage(_SIGNED.image, "hello", [], {}), _key(), _nothing)
    named = _named(files)
    (layer,) = named[f"sha256-{_HEX}.sig"]["layers"]
    assert json.loads(_blob(files, layer))["critical"]["identity"] == {"docker-reference": "hello"}
    assert f"sha256-{_HEX}.att" not in named
