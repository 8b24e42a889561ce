"""skopeo: sends the blobs and the manifest of an image by its digest. It never sets a tag."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from unikernel.errors import UnikernelError
from unikernel.oci.credentials import Credentials
from unikernel.oci.layout import OCI_LAYOUT, REFERENCE, Descriptor, canonical_json
from unikernel.oci.registry import RETRIES, hide
from unikernel.oci.repository import Repository

_MESSAGE = re.compile(r'level=fatal msg="((?:[^"\\]|\\.)*)"')
_LATER = " The registry does not answer as it should: see its log, and publish again; what is there is not sent again."
# What skopeo's messages have, the registry's words and those of Go's libraries -> what to do.
_ADVICE = (
    ("unauthorized|authentication required", " The credentials do not do for pushing there: log in with `docker login`."),
    ("denied|forbidden|insufficient_scope|status: 403", " The account may not push there: give it the right to."),
    ("x509|certificate", " Put the certificate of its authority into /etc/docker/certs.d/REGISTRY/ca.crt or among this machine's."),
    ("invalid reference format", " skopeo 1.9 takes no IPv6 address for a registry: use a name."),
    ("status: (408|429|5..)|toomanyrequests|unavailable|blob upload (unknown|invalid)", _LATER),
    (r"connection refused|connection reset|broken pipe|closed network connection|unreachable|timeout|\bEOF\b", _LATER),
)


class Skopeo:
    """`program` is a path or a name on PATH. Raises UnikernelError if it is not there."""

    def __init__(self, program: str, repository: Repository, credentials: Credentials | None) -> None:
        found = shutil.which(program)
        if found is None:
            raise UnikernelError(
                f"skopeo, which sends images, is not at {program!r}: install the package skopeo, or say where it is."
            )
        self._program = found
        self._repository = repository
        self._credentials = credentials

    def push(self, descriptor: Descriptor, blobs: Path) -> None:
        """Sends the image manifest and what of its blobs is not there yet. `blobs` is a layout's directory of that name."""
        with tempfile.TemporaryDirectory(prefix="unikernel-") as directory:
            # skopeo finds an image of a layout by its name only, which this one has for nothing else.
            _write_view(Path(directory), descriptor, blobs)
            self._copy(f"oci:{directory}:image", descriptor.digest)

    def _copy(self, source: str, digest: str) -> None:
        """Tries again what may be temporary, and then sends what is missing. skopeo's own `--retry-times` gives up at a 503."""
        for attempt in range(RETRIES + 1):
            said = self._run(source, digest)
            if not said:
                return
            advice = self._advice(said)
            if advice != _LATER or attempt == RETRIES:
                break
            time.sleep(1 << attempt)
        said = hide(said, self._credentials).rstrip(".")
        raise UnikernelError(f"{digest} was not pushed to {self._repository}; no tag was set. skopeo: {said}.{advice}")

    def _advice(self, said: str) -> str:
        # Names may have these words too.
        words = said.replace(str(self._repository), "")
        return next((advice for pattern, advice in _ADVICE if re.search(pattern, words, re.IGNORECASE)), "")

    def _run(self, source: str, digest: str) -> str:
        """Returns what it says if it fails."""
        authfile = _memory_file("authfile", self._authfile())
        try:
            options = ["--preserve-digests", "--quiet", f"--authfile=/proc/self/fd/{authfile}"]
            options.append(f"--dest-tls-verify={'false' if self._repository.is_local else 'true'}")
            command = [self._program, "--insecure-policy", "copy", *options, source, f"docker://{self._repository}@{digest}"]
            ran = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=(authfile,)
            )
        except OSError as error:
            raise UnikernelError(f"{self._program} cannot be run: {error.strerror}.") from None
        finally:
            os.close(authfile)
        if ran.returncode == 0:
            return ""
        stderr = ran.stderr.decode(errors="replace")
        fatal = _MESSAGE.findall(stderr)
        return fatal[-1].replace('\\"', '"') if fatal else (stderr.strip().splitlines() or [f"exit status {ran.returncode}"])[-1]

    def _authfile(self) -> bytes:
        """Just what is needed: skopeo 1.9 does not know all places and helpers that Docker has."""
        auths = {self._repository.host: self._credentials.to_document()} if self._credentials else {}
        return json.dumps({"auths": auths}).encode()


def _memory_file(name: str, content: bytes) -> int:
    """Returns its descriptor: secrets of credential helpers are not to be on a disk, nor on a command line."""
    descriptor = os.memfd_create(name)
    os.write(descriptor, content)
    return descriptor


def _write_view(directory: Path, descriptor: Descriptor, blobs: Path) -> None:
    (directory / "oci-layout").write_bytes(OCI_LAYOUT)
    (directory / "blobs").symlink_to(blobs.resolve())
    entry = {**descriptor.to_document(), "annotations": {REFERENCE: "image"}}
    (directory / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": [entry]}))
