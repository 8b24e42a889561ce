"""Keys for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from unikernel.signing.keys import PrivateKey

KINDS = ("ecdsa", "ed25519")


def write_key(path: Path, kind: str = "ecdsa", password: bytes | None = None) -> Path:
    """A new private key in a PEM file. `kind` is one of KINDS, or "rsa", which is not used here."""
    encryption = BestAvailableEncryption(password) if password is not None else NoEncryption()
    make = {
        "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }
    key: Any = make[kind]()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)
    return path


def make_key(directory: Path, kind: str = "ecdsa", name: str = "key.pem") -> PrivateKey:
    return PrivateKey.load(write_key(directory / name, kind), None)
