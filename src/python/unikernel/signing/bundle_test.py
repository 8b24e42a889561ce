from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unikernel.errors import UnikernelError
from unikernel.signing.bundle import sign_bundle, verify_bundle
from unikernel.signing.documents import serialize
from unikernel.signing.keys import Message
from unikernel.testing.signing import KINDS, make_key

_MESSAGE = Message.of(b"image")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_signed_is_what_is_verified(tmp_path: Path, kind: str) -> None:
    key, other = make_key(tmp_path, kind), make_key(tmp_path, name="other")
    bundle = sign_bundle(_MESSAGE, key)
    assert sign_bundle(_MESSAGE, key) == bundle
    assert verify_bundle(bundle, _MESSAGE, [other.public, key.public], "it") == key.public
    with pytest.raises(UnikernelError, match="the signature of another file"):
        verify_bundle(bundle, Message.of(b"other"), [key.public], "it")
    with pytest.raises(UnikernelError, match="not among those that are trusted"):
        verify_bundle(bundle, _MESSAGE, [other.public], "it")


def _replaced(document: Any, path: tuple[str, ...], value: Any) -> Any:
    return value if not path else {**document, path[0]: _replaced(document.get(path[0]), path[1:], value)}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("mediaType",), "application/vnd.dev.sigstore.bundle+json;version=0.2", "no Sigstore bundle of version 0.3"),
        (("mediaType",), None, "no Sigstore bundle of version 0.3"),
        (("more",), 1, "no Sigstore bundle of a file's signature"),
        (("verificationMaterial",), {"certificate": {}}, "no Sigstore bundle of a file's signature"),
        (("verificationMaterial", "tlogEntries"), [], "no Sigstore bundle of a file's signature"),
        (("verificationMaterial", "publicKey"), [], "no Sigstore bundle of a file's signature"),
        (("verificationMaterial", "publicKey", "hint"), ["x"], "not among those that are trusted"),
        (("messageSignature", "messageDigest", "algorithm"), "SHA1", "a digest by 'SHA1'"),
        (("messageSignature", "messageDigest", "algorithm"), {}, "a digest by"),
        (("messageSignature", "messageDigest", "digest"), "QQ==", "the digests differ"),
        (("messageSignature", "signature"), "", "does not hold"),
        (("messageSignature", "signature"), 5, "not in base64"),
    ],
)
def test_an_altered_bundle_is_refused(tmp_path: Path, path: tuple[str, ...], value: object, expected: str) -> None:
    key = make_key(tmp_path)
    document = _replaced(json.loads(sign_bundle(_MESSAGE, key)), path, value)
    with pytest.raises(UnikernelError, match=expected):
        verify_bundle(serialize(document) + b"\n", _MESSAGE, [key.public], "it")
