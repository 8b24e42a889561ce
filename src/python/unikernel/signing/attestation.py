"""Attestations: in-toto statements about a file in signed envelopes.

Formats: in-toto/attestation, spec/v1 (statement) and its bundle.md (one envelope a line in a .jsonl file); secure-systems-lab/dsse,
envelope.md and protocol.md.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope

from unikernel.errors import UnikernelError
from unikernel.signing.documents import decode_base64, member, parse, parse_line, serialize, serialize_line
from unikernel.signing.keys import Message, PublicKey
from unikernel.signing.signer import Signer

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Attestation:
    """`predicate` is what `predicate_type` (a URI) says about the file with the digest `sha256` (hex), called `name`."""

    name: str
    sha256: str
    predicate_type: str
    predicate: Mapping[str, Any]


def sign_attestation(attestation: Attestation, signer: Signer) -> bytes:
    """One envelope on one line."""
    payload = _statement(attestation)
    signature = signer.sign(_signed(payload))
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": signer.public.fingerprint, "sig": base64.b64encode(signature).decode()}],
    }
    return serialize_line(envelope)


def same_attestation(one: Attestation, other: Attestation) -> bool:
    """Whether both say the same, to the byte."""
    return _statement(one) == _statement(other)


def _statement(attestation: Attestation) -> bytes:
    return serialize(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": attestation.name, "digest": {"sha256": attestation.sha256}}],
            "predicateType": attestation.predicate_type,
            "predicate": attestation.predicate,
        }
    )


def verify_attestation(content: bytes, sha256: str, keys: Sequence[PublicKey], name: str) -> tuple[Attestation, PublicKey]:
    """What the envelope says about the file with the digest `sha256` (hex), and the key of `keys` that signed it.

    Raises UnikernelError, with `name` in it, when none of them signed it, or it is about another file. Nothing of the payload is read
    before its signature holds.
    """
    envelope = parse_line(content, name)
    signatures = envelope.get("signatures")
    if set(envelope) != {"payload", "payloadType", "signatures"} or not isinstance(signatures, list):
        raise UnikernelError(f"{name} is no DSSE envelope.")
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise UnikernelError(f"{name} has a payload of the type {envelope['payloadType']!r}, not an in-toto statement.")
    payload = decode_base64(envelope["payload"], f"the payload of {name}")
    key = _signer_of(_signed(payload), signatures, keys, name)
    statement = parse(payload, f"the payload of {name}")
    if statement.get("_type") != STATEMENT_TYPE or set(statement) != {"_type", "subject", "predicateType", "predicate"}:
        raise UnikernelError(f"{name} has another payload than an in-toto statement of version 1.")
    subjects, predicate_type, predicate = statement["subject"], statement["predicateType"], statement["predicate"]
    if not isinstance(predicate_type, str) or not isinstance(predicate, dict) or not isinstance(subjects, list):
        raise UnikernelError(f"{name} has another payload than an in-toto statement of version 1.")
    for subject in subjects:
        if member(subject, "digest").get("sha256") == sha256:
            return Attestation(str(subject.get("name", "")), sha256, predicate_type, predicate), key
    raise UnikernelError(f"{name} is about another file: its subject has another digest.")


def _signed(payload: bytes) -> Message:
    """What is signed of an envelope: its pre-authentication encoding."""
    return Message.of(Envelope(payload, PAYLOAD_TYPE, {}).pae())


def _signer_of(signed: Message, signatures: Sequence[Any], keys: Sequence[PublicKey], name: str) -> PublicKey:
    by_id = {key.fingerprint: key for key in keys}
    if len(signatures) != 1:
        raise UnikernelError(f"{name} has {len(signatures)} signatures, not one.")
    signature = signatures[0]
    if not isinstance(signature, dict) or set(signature) != {"keyid", "sig"} or not isinstance(signature["keyid"], str):
        raise UnikernelError(f"{name} is no DSSE envelope.")
    key = by_id.get(signature["keyid"])
    if key is None:
        raise UnikernelError(f"{name} is signed by a key that is not among those that are trusted here ({signature['keyid']}).")
    if not key.verifies(decode_base64(signature["sig"], f"the signature in {name}"), signed):
        raise UnikernelError(f"{name} has a signature that does not hold.")
    return key
