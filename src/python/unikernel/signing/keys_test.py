from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from nacl.secret import SecretBox

from unikernel.errors import UnikernelError
from unikernel.signing.keys import Message, PrivateKey, PublicKey
from unikernel.testing.signing import KINDS, make_key, write_key

_MESSAGE = Message.of(b"message")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("password", [None, b"secret"])
def test_a_key_signs_what_its_public_part_verifies(tmp_path: Path, kind: str, password: bytes | None) -> None:
    key = PrivateKey.load(write_key(tmp_path / "key", kind, password), password)
    signature = key.sign(_MESSAGE)
    assert key.public.verifies(signature, _MESSAGE)
    assert not key.public.verifies(signature, Message.of(b"other"))
    assert not key.public.verifies(b"", _MESSAGE)
    assert not key.public.verifies(signature[:-1], _MESSAGE)
    assert key.sign(_MESSAGE) == signature


def test_an_ecdsa_key_signs_without_reading_the_message(tmp_path: Path) -> None:
    def read() -> bytes:
        raise AssertionError("was read")

    key = make_key(tmp_path)
    assert key.public.verifies(key.sign(Message(_MESSAGE.sha256, read)), _MESSAGE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_public_key_is_the_same_from_its_own_file(tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, kind)
    (tmp_path / "key.pub").write_text(key.public.pem)
    public = PublicKey.load(tmp_path / "key.pub")
    assert (public.fingerprint, public.hint) == (key.public.fingerprint, key.public.hint)
    assert base64.b64decode(public.hint).hex() == public.fingerprint
    assert public.verifies(key.sign(_MESSAGE), _MESSAGE)


def test_a_password_that_is_not_needed_does_no_harm(tmp_path: Path) -> None:
    PrivateKey.load(write_key(tmp_path / "key"), b"secret")


@pytest.mark.parametrize(("password", "expected"), [(None, "a password is needed"), (b"wrong", "the password is wrong")])
def test_an_encrypted_key_and_its_password(tmp_path: Path, password: bytes | None, expected: str) -> None:
    path = write_key(tmp_path / "key", password=b"secret")
    with pytest.raises(UnikernelError, match=expected):
        PrivateKey.load(path, password)


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    keys: list[Any] = [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())]
    for key in keys:
        (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(UnikernelError, match="a kind that is not used here: ECDSA keys on the curve P-256"):
            PrivateKey.load(tmp_path / "key", None)
        (tmp_path / "key").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(UnikernelError, match="a kind that is not used here"):
            PublicKey.load(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"SECRET-LOOKING", b"-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_without_being_quoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(UnikernelError, match="no private key in PEM form") as caught:
        PrivateKey.load(tmp_path / "key", None)
    assert "SECRET" not in str(caught.value) and caught.value.__cause__ is None
    with pytest.raises(UnikernelError, match="no public key"):
        PublicKey.load(tmp_path / "key")


def test_a_key_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="cannot be read: No such file"):
        PrivateKey.load(tmp_path / "none", None)
    with (tmp_path / "large").open("wb") as stream:
        os.ftruncate(stream.fileno(), 1 << 30)
    with pytest.raises(UnikernelError, match="larger than 64 KiB"):
        PrivateKey.load(tmp_path / "large", None)


def test_a_private_key_is_not_shown(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    assert repr(key) == str(key) == f"PrivateKey({key.public.fingerprint})"


# --- cosign's key files -------------------------------------------------------------------------------------------


def _cosign_key(path: Path, password: bytes = b"secret", **changes: object) -> Path:
    """As `cosign generate-key-pair` writes it, with a cheaper derivation."""
    salt, nonce = b"s" * 32, b"n" * 24
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    box = SecretBox(Scrypt(salt, 32, 1024, 8, 1).derive(password)).encrypt(key, nonce)
    document = {
        "kdf": {"name": "scrypt", "params": {"N": 1024, "r": 8, "p": 1}, "salt": base64.b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(box.ciphertext).decode(),
        **changes,
    }
    body = base64.encodebytes(json.dumps(document).encode()).decode()
    path.write_text(f"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n{body}-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    return path


def test_a_key_file_of_cosign(tmp_path: Path) -> None:
    path = _cosign_key(tmp_path / "cosign.key")
    key = PrivateKey.load(path, b"secret")
    assert key.public.verifies(key.sign(_MESSAGE), _MESSAGE)
    with pytest.raises(UnikernelError, match="a password is needed"):
        PrivateKey.load(path, None)
    with pytest.raises(UnikernelError, match="password of the key .* is wrong"):
        PrivateKey.load(path, b"wrong")


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf": {"name": "scrypt", "params": {"N": 1 << 30, "r": 8, "p": 1}, "salt": ""}},
        {"kdf": {"name": "scrypt", "params": {"N": 1023, "r": 8, "p": 1}, "salt": ""}},
        {"kdf": {"name": "scrypt", "params": {"N": 1024, "r": -8, "p": 1}, "salt": ""}},
        {"kdf": {"name": "pbkdf2", "params": {}, "salt": ""}},
        {"kdf": []},
        {"cipher": None},
        {"ciphertext": 1},
    ],
)
def test_a_damaged_key_file_of_cosign(tmp_path: Path, changes: dict[str, object]) -> None:
    path = _cosign_key(tmp_path / "cosign.key", **changes)  # type: ignore[arg-type]
    with pytest.raises(UnikernelError, match="no key file of cosign"):
        PrivateKey.load(path, b"secret")


def test_a_truncated_key_file_of_cosign(tmp_path: Path) -> None:
    path = _cosign_key(tmp_path / "cosign.key")
    content = path.read_bytes()
    for size in range(45, len(content) - 50, 7):
        path.write_bytes(content[:size])
        with pytest.raises(UnikernelError):
            PrivateKey.load(path, b"secret")
