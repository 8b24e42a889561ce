from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from unikernel.errors import UnikernelError
from unikernel.signing.attestation import PAYLOAD_TYPE, Attestation, sign_attestation, verify_attestation
from unikernel.signing.documents import serialize
from unikernel.signing.keys import Message, PrivateKey
from unikernel.testing.signing import KINDS, make_key

_SHA256 = hashlib.sha256(b"image").hexdigest()
_ATTESTATION = Attestation("image.elf", _SHA256, "https://slsa.dev/provenance/v1", {"a": [1, {"b": "ü"}]})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_attested_is_what_is_verified(tmp_path: Path, kind: str) -> None:
    key, other = make_key(tmp_path, kind), make_key(tmp_path, name="other")
    content = sign_attestation(_ATTESTATION, key)
    assert content.count(b"\n") == 1 and content.endswith(b"\n")
    assert verify_attestation(content, _SHA256, [other.public, key.public], "it") == (_ATTESTATION, key.public)
    assert sign_attestation(_ATTESTATION, key) == content
    with pytest.raises(UnikernelError, match="not among those that are trusted"):
        verify_attestation(content, _SHA256, [other.public], "it")
    with pytest.raises(UnikernelError, match="about another file"):
        verify_attestation(content, hashlib.sha256(b"other").hexdigest(), [key.public], "it")


def _resigned(key: PrivateKey, payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """An envelope with a good signature over any payload."""
    pae = b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type.encode(), len(payload), payload)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key.public.fingerprint, "sig": base64.b64encode(key.sign(Message.of(pae))).decode()}],
    }
    return serialize(envelope) + b"\n"


def _statement(**changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "image", "digest": {"sha256": _SHA256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
        **changes,
    }


def test_an_envelope_of_another_tool_is_read(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    payload = json.dumps(_statement(subject=[{"name": "other", "digest": {"sha512": "aa"}}, *_statement()["subject"]])).encode()
    assert verify_attestation(_resigned(key, payload), _SHA256, [key.public], "it")[0].name == "image"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{",
        json.dumps(_statement(_type="https://in-toto.io/Statement/v0.1")).encode(),
        json.dumps(_statement(subject=[])).encode(),
        json.dumps(_statement(subject={})).encode(),
        json.dumps(_statement(subject=[1, {"digest": 1}, {"digest": {"sha256": 1}}])).encode(),
        json.dumps(_statement(predicate=[])).encode(),
        json.dumps(_statement(predicateType=1)).encode(),
        json.dumps(_statement(more=1)).encode(),
        json.dumps(_statement())[:-1].encode() + b',"predicate":{}}',
    ],
)
def test_a_signed_payload_that_is_no_statement_about_the_file(tmp_path: Path, payload: bytes) -> None:
    key = make_key(tmp_path)
    with pytest.raises(UnikernelError, match="it"):
        verify_attestation(_resigned(key, payload), _SHA256, [key.public], "it")


def test_another_type_of_payload_is_refused(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with pytest.raises(UnikernelError, match="not an in-toto statement"):
        verify_attestation(_resigned(key, json.dumps(_statement()).encode(), "text/plain"), _SHA256, [key.public], "it")


def test_the_number_of_signatures_is_one(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    envelope = json.loads(sign_attestation(_ATTESTATION, key))
    for signatures in ([], envelope["signatures"] * 2):
        with pytest.raises(UnikernelError, match="signatures, not one"):
            verify_attestation(serialize({**envelope, "signatures": signatures}) + b"\n", _SHA256, [key.public], "it")
