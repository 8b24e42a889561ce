"""The key that signs while nobody has configured another: made once for each user.

It tells that an image was built by this user on this machine, and no more. What it signs says that it is such a key.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from unikernel.errors import UnikernelError
from unikernel.signing.keys import PrivateKey

_NAME = "development-key.pem"


def development_key_path(environment: Mapping[str, str]) -> Path:
    """Below the user's configuration directory (specifications.freedesktop.org/basedir-spec). Raises UnikernelError without one."""
    configured = environment.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(configured):
        return Path(configured, "unikernel", _NAME)
    try:
        home = Path(environment.get("HOME") or Path.home())
    except RuntimeError as error:
        raise UnikernelError("There is no home directory to keep a development key in: set HOME, or configure a key.") from error
    return home / ".config/unikernel" / _NAME


def public_part_path(path: Path) -> Path:
    """The public key beside a development key, for those who verify."""
    return path.with_suffix(".pub")


def load_development_key(path: Path) -> PrivateKey:
    """Makes the key if it is not there: readable by its user only, and whole or not at all. Raises UnikernelError."""
    try:
        if not path.exists():
            _make(path)
        key = PrivateKey.load(path, None)
        public = public_part_path(path)
        if not public.exists() or public.read_text() != key.public.pem:
            _write(public, key.public.pem.encode(), 0o644, replace=True)
    except OSError as error:
        raise UnikernelError(f"No development key can be kept at {path}: {error.strerror}. Configure a key.") from error
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600, replace=False)


def _write(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    """Without `replace`, a file that another process made meanwhile stays."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            os.replace(name, path)
        else:
            os.link(name, path)
    except FileExistsError:
        pass
    finally:
        if os.path.lexists(name):
            os.unlink(name)
