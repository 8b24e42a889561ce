"""What signs: a key in a file, or a command that has one, such as the client of a key management service or of a hardware module."""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unikernel.errors import UnikernelError
from unikernel.signing.keys import Message, PublicKey

_PATIENCE = 60
_LONGEST_OUTPUT = 1 << 16
_LONGEST_COMPLAINT = 500


class Signer(Protocol):
    """`keys.PrivateKey` is one."""

    @property
    def public(self) -> PublicKey:
        ...

    def sign(self, message: Message) -> bytes:
        ...


@dataclass(frozen=True)
class CommandSigner:
    """A command that reads the SHA-256 digest of a message from its standard input, in hex and with a newline, and prints the signature
    in base64.

    `public` is the key that it is said to sign with: what it prints is verified before it is used. `patience` is in seconds. Without an
    `environment` or a `directory` of its own, it runs in this process's.
    """

    command: Sequence[str]
    public: PublicKey
    patience: float = _PATIENCE
    environment: Mapping[str, str] | None = None
    directory: Path | None = None

    def __post_init__(self) -> None:
        if not self.public.signs_digests:
            raise UnikernelError(
                "A signing command is given a digest, which an Ed25519 key cannot sign: use an ECDSA key on P-256."
            )

    def sign(self, message: Message) -> bytes:
        """Raises UnikernelError when the command fails, does not answer, or prints something else than a signature by its key."""
        printed = self._run(message.sha256.hex().encode() + b"\n")
        try:
            signature = base64.b64decode(b"".join(printed.split()), validate=True)
        except binascii.Error as error:
            raise UnikernelError(f"The signing command {self} printed something else than a signature in base64.") from error
        if not self.public.verifies(signature, message):
            raise UnikernelError(
                f"The signing command {self} printed no signature by the key that it is configured with ({self.public.fingerprint})."
            )
        return signature

    def _run(self, digest: bytes) -> bytes:
        try:
            # A session of its own: when it hangs, what it has started goes with it.
            process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=self.environment,
                cwd=self.directory,
            )
        except OSError as error:
            raise UnikernelError(f"The signing command {self} cannot be run: {error.strerror}.") from error
        try:
            printed, complaint = process.communicate(digest, timeout=self.patience)
        except subprocess.TimeoutExpired:
            raise UnikernelError(f"The signing command {self} did not answer within {self.patience:g} s.") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode != 0:
            said = complaint.decode(errors="replace").strip()[-_LONGEST_COMPLAINT:]
            raise UnikernelError(
                f"The signing command {self} ended with status {process.returncode}" + (f": {said}" if said else ".")
            )
        if len(printed) > _LONGEST_OUTPUT:
            raise UnikernelError(f"The signing command {self} printed something else than a signature in base64.")
        return printed

    def __str__(self) -> str:
        return shlex.join(self.command)
