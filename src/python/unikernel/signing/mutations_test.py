"""Seeded mutations of signed files: every one is refused, with an error that a user can read."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unikernel.errors import UnikernelError
from unikernel.signing.attestation import Attestation, sign_attestation, verify_attestation
from unikernel.signing.bundle import sign_bundle, verify_bundle
from unikernel.signing.keys import Message, PrivateKey
from unikernel.testing.mutations import flip, truncate
from unikernel.testing.signing import KINDS, make_key

_MUTATIONS = 400
_IMAGE = bytes(range(256)) * 8


def _delete(content: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(content))
    return content[:position] + content[position + chance.randint(1, 8) :]


def _insert(content: bytes, chance: random.Random) -> bytes:
    position = chance.randrange(len(content) + 1)
    return content[:position] + chance.choice([b" ", b"\n", b"\0", b"{", b'"', b"A", b"=", b"\xff"]) + content[position:]


def _repeat(content: bytes, chance: random.Random) -> bytes:
    """A member that is there twice, among others."""
    start = chance.randrange(len(content))
    part = content[start : start + chance.randint(1, 64)]
    return content[:start] + part + content[start:]


_KINDS_OF_MUTATION: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, truncate, _delete, _insert, _repeat)


def _attestation(content: bytes) -> Attestation:
    return Attestation("image.elf", hashlib.sha256(content).hexdigest(), "https://slsa.dev/provenance/v1", {"a": ["b", {"c": 1}]})


@pytest.fixture(params=KINDS)
def key(request: Any, tmp_path: Path) -> PrivateKey:
    return make_key(tmp_path, request.param)


@pytest.mark.parametrize("mutate", _KINDS_OF_MUTATION)
def test_mutations_of_each_file_are_refused(key: PrivateKey, mutate: Callable[[bytes, random.Random], bytes]) -> None:
    chance = random.Random(f"{mutate.__name__}")
    bundle, attestation = sign_bundle(Message.of(_IMAGE), key), sign_attestation(_attestation(_IMAGE), key)
    keys = [key.public]
    verify_bundle(bundle, Message.of(_IMAGE), keys, "it")
    verify_attestation(attestation, hashlib.sha256(_IMAGE).hexdigest(), keys, "it")
    for _ in range(_MUTATIONS):
        image = mutate(_IMAGE, chance)
        if image != _IMAGE:
            with pytest.raises(UnikernelError):
                verify_bundle(bundle, Message.of(image), keys, "it")
            with pytest.raises(UnikernelError):
                verify_attestation(attestation, hashlib.sha256(image).hexdigest(), keys, "it")
        other = mutate(bundle, chance)
        if other != bundle:
            with pytest.raises(UnikernelError):
                verify_bundle(other, Message.of(_IMAGE), keys, "it")
        other = mutate(attestation, chance)
        if other != attestation:
            with pytest.raises(UnikernelError):
                verify_attestation(other, hashlib.sha256(_IMAGE).hexdigest(), keys, "it")


def test_files_of_another_image_or_another_key_are_refused(tmp_path: Path) -> None:
    keys = [make_key(tmp_path, kind, name) for kind in KINDS for name in ("one", "two")]
    images = (b"one", b"two")
    for signer in keys:
        for signed in images:
            bundle, attestation = sign_bundle(Message.of(signed), signer), sign_attestation(_attestation(signed), signer)
            for trusted in keys:
                for image in images:
                    if (signer, signed) == (trusted, image):
                        continue
                    with pytest.raises(UnikernelError):
                        verify_bundle(bundle, Message.of(image), [trusted.public], "it")
                    with pytest.raises(UnikernelError):
                        verify_attestation(attestation, hashlib.sha256(image).hexdigest(), [trusted.public], "it")
            with pytest.raises(UnikernelError):
                verify_bundle(attestation, Message.of(signed), [signer.public], "it")
            with pytest.raises(UnikernelError):
                verify_attestation(bundle, hashlib.sha256(signed).hexdigest(), [signer.public], "it")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)
_names = st.sampled_from(
    [
        "mediaType",
        "verificationMaterial",
        "publicKey",
        "hint",
        "messageSignature",
        "messageDigest",
        "algorithm",
        "digest",
        "signature",
    ]
    + ["payload", "payloadType", "signatures", "keyid", "sig"]
)
_alike = st.recursive(_json, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_names, inner, max_size=5), max_leaves=20)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=200) | _alike.map(lambda document: json.dumps(document).encode() + b"\n"))
def test_a_verifier_refuses_whatever_it_is_given(content: bytes) -> None:
    for verify in (
        lambda: verify_bundle(content, Message.of(_IMAGE), [], "it"),
        lambda: verify_attestation(content, hashlib.sha256(_IMAGE).hexdigest(), [], "it"),
    ):
        with pytest.raises(UnikernelError):
            verify()
