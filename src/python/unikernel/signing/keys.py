"""Keys that sign and verify: ECDSA on P-256 with SHA-256, and Ed25519.

ECDSA signatures are ASN.1 DER, as Sigstore has them, and deterministic (RFC 6979): the same input gives the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Union

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    load_pem_public_key,
)
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from unikernel.errors import UnikernelError
from unikernel.signing.documents import read

_PrivateKey = Union[ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey]
_PublicKey = Union[ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey]
_VERIFYING = ec.ECDSA(Prehashed(hashes.SHA256()))
_SIGNING = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)
_KINDS = "ECDSA keys on the curve P-256 and Ed25519 keys"
# cosign's file: a PEM block around JSON (github.com/secure-systems-lab/go-securesystemslib/encrypted).
_COSIGN_BEGIN = (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----", b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----")
_COSIGN_END = b"-----END "
# scrypt takes 128 * N * r bytes of memory; cosign's own parameters take 64 MiB.
_MOST_SCRYPT_MEMORY = 1 << 28
_LARGEST_KEY_FILE = 1 << 16


class PasswordNeeded(UnikernelError):
    """A key is encrypted, and there is no password for it."""


@dataclass(frozen=True)
class Message:
    """What is signed. `read` is asked for the content only where the digest (SHA-256) is not enough: Ed25519 signs all of it."""

    sha256: bytes
    read: Callable[[], bytes]

    @classmethod
    def of(cls, content: bytes) -> Message:
        return cls(hashlib.sha256(content).digest(), lambda: content)


@dataclass(frozen=True)
class PublicKey:
    """`der` is the key as SubjectPublicKeyInfo (PKIX)."""

    der: bytes
    _key: _PublicKey

    @classmethod
    def of(cls, key: PublicKeyTypes, name: str) -> PublicKey:
        """Raises UnikernelError, with `name` in it, for a key of another kind."""
        if not isinstance(key, ed25519.Ed25519PublicKey) and not (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        ):
            raise _other_kind(name)
        return cls(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), key)

    @classmethod
    def load(cls, path: Path) -> PublicKey:
        """From a PEM file. Raises UnikernelError."""
        try:
            return cls.of(load_pem_public_key(_content(path)), str(path))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UnikernelError(f"{path} is no public key in PEM form.") from error

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of `der`, in hex."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """As `publicKey.hint` of a Sigstore bundle has it."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def pem(self) -> str:
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def signs_digests(self) -> bool:
        """Whether the digest of a message is all that a signer of this kind needs."""
        return isinstance(self._key, ec.EllipticCurvePublicKey)

    def verifies(self, signature: bytes, message: Message) -> bool:
        try:
            if isinstance(self._key, ed25519.Ed25519PublicKey):
                self._key.verify(signature, message.read())
            else:
                self._key.verify(signature, message.sha256, _VERIFYING)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class PrivateKey:
    """Not shown by `repr`, and compared by its public part."""

    public: PublicKey
    _key: _PrivateKey = field(compare=False)

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.fingerprint})"

    @classmethod
    def load(cls, path: Path, password: bytes | None) -> PrivateKey:
        """From PEM (PKCS #8, SEC 1), encrypted or not, or from cosign's key file. Raises UnikernelError, which never quotes content."""
        content = _content(path)
        if content.lstrip().startswith(_COSIGN_BEGIN):
            key = _load_cosign(content, path, password)
        else:
            key = _load_pem(content, path, password)
        if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
            raise _other_kind(str(path))
        return cls(PublicKey.of(key.public_key(), str(path)), key)

    def sign(self, message: Message) -> bytes:
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message.read())
        return self._key.sign(message.sha256, _SIGNING)


def readable_by_others(path: Path) -> bool:
    """Whether more than a file's owner may read it. A file that is not there is no one's."""
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def _other_kind(name: str) -> UnikernelError:
    return UnikernelError(f"{name} is a key of a kind that is not used here: {_KINDS} are.")


def _content(path: Path) -> bytes:
    return read(path, f"The key {path}", _LARGEST_KEY_FILE)


def _load_pem(content: bytes, path: Path, password: bytes | None) -> PrivateKeyTypes:
    try:
        try:
            return load_pem_private_key(content, password)
        except TypeError:
            # Raised for a password too few, and for one too many: an unencrypted key needs none.
            if password is None:
                raise PasswordNeeded(f"The key {path} is encrypted: a password is needed.") from None
            return load_pem_private_key(content, None)
    except (ValueError, UnsupportedAlgorithm):
        # The cause is left out: it can quote what was read.
        hint = "the password is wrong, or " if b"ENCRYPTED" in content else ""
        raise UnikernelError(f"The key {path} cannot be used: {hint}it is no private key in PEM form.") from None


def _load_cosign(content: bytes, path: Path, password: bytes | None) -> PrivateKeyTypes:
    if password is None:
        raise PasswordNeeded(f"The key {path} is encrypted: a password is needed.")
    try:
        body = content.split(b"-----\n", 1)[1].split(_COSIGN_END, 1)[0]
        document = json.loads(base64.b64decode(b"".join(body.split()), validate=True))
        kdf, cipher = document["kdf"], document["cipher"]
        if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
            raise ValueError("another cipher")
        parameters = {name: int(kdf["params"][name]) for name in ("N", "r", "p")}
        if min(parameters.values()) < 1 or 128 * parameters["N"] * parameters["r"] * parameters["p"] > _MOST_SCRYPT_MEMORY:
            raise ValueError("no parameters that any key of cosign has")
        salt, nonce = base64.b64decode(kdf["salt"]), base64.b64decode(cipher["nonce"])
        secret = Scrypt(salt, 32, parameters["N"], parameters["r"], parameters["p"]).derive(password)
        ciphertext = base64.b64decode(document["ciphertext"])
    except (ValueError, LookupError, TypeError, AttributeError, binascii.Error):
        raise UnikernelError(f"The key {path} is no key file of cosign: it is damaged.") from None
    try:
        return load_der_private_key(SecretBox(secret).decrypt(ciphertext, nonce), None)
    except (CryptoError, ValueError, TypeError, UnsupportedAlgorithm):
        raise UnikernelError(f"The password of the key {path} is wrong.") from None
