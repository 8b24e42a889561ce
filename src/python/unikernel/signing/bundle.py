"""Sigstore bundles with the signature of a file by a plain key.

Format: sigstore/protobuf-specs, sigstore_bundle.proto, version 0.3, in the JSON form of protobuf.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from unikernel.errors import UnikernelError
from unikernel.signing.documents import decode_base64, parse_line, serialize_line
from unikernel.signing.keys import Message, PublicKey
from unikernel.signing.signer import Signer

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_ALGORITHM = "SHA2_256"


def sign_bundle(message: Message, signer: Signer) -> bytes:
    """The bundle as a file, with a newline at its end."""
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": signer.public.hint}},
        "messageSignature": {
            "messageDigest": {"algorithm": _ALGORITHM, "digest": base64.b64encode(message.sha256).decode()},
            "signature": base64.b64encode(signer.sign(message)).decode(),
        },
    }
    return serialize_line(document)


def verify_bundle(content: bytes, message: Message, keys: Sequence[PublicKey], name: str) -> PublicKey:
    """The key of `keys` that signed `message`. Raises UnikernelError, with `name` in it, when none did, or the bundle is another one's.

    Members that are not known are refused: a verifier must not skip over what it does not understand.
    """
    document = parse_line(content, name)
    _members(document, name, {"mediaType", "verificationMaterial", "messageSignature"})
    if document["mediaType"] != MEDIA_TYPE:
        raise UnikernelError(f"{name} is no Sigstore bundle of version 0.3: its media type is {document['mediaType']!r}.")
    material = _members(document["verificationMaterial"], name, {"publicKey"})
    hint = _members(material["publicKey"], name, {"hint"})["hint"]
    signed = _members(document["messageSignature"], name, {"messageDigest", "signature"})
    digest = _members(signed["messageDigest"], name, {"algorithm", "digest"})
    if digest["algorithm"] != _ALGORITHM:
        raise UnikernelError(f"{name} has a digest by {digest['algorithm']!r}, not by {_ALGORITHM}.")
    if decode_base64(digest["digest"], f"the digest in {name}") != message.sha256:
        raise UnikernelError(f"{name} is the signature of another file: the digests differ.")
    signature = decode_base64(signed["signature"], f"the signature in {name}")
    for key in keys:
        if key.hint == hint:
            if key.verifies(signature, message):
                return key
            raise UnikernelError(f"{name} has a signature that does not hold.")
    raise UnikernelError(f"{name} is signed by a key that is not among those that are trusted here (its hint is {hint!r}).")


def _members(value: Any, name: str, members: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != members:
        raise UnikernelError(
            f"{name} is no Sigstore bundle of a file's signature by a key: not {', '.join(sorted(members))} in it."
        )
    return value
