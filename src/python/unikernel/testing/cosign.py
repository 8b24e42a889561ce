"""The real cosign: the one on PATH, or the one that Debian has."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unikernel.testing.debian_package import program

# The first release of Debian that has it. It is a static program, which runs on older ones too.
_RELEASE = "trixie"
# Attestation (as the names of files have it) -> what cosign calls its type.
ATTESTATIONS = {"intoto": "slsaprovenance1", "spdx.intoto": "spdxjson", "cdx.intoto": "cyclonedx"}
# What `cosign` needs to know of Sigstore's public services, when none of them is used: otherwise it asks them.
_EMPTY_TRUSTED_ROOT = '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}\n'


def cosign() -> str:
    """The path of the program."""
    return program("cosign", release=_RELEASE)


def run_cosign(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": os.environ.get("HOME", "/"), "PATH": os.environ.get("PATH", os.defpath), **variables}
    return subprocess.run(
        [cosign(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", env=environment
    )


@contextmanager
def trusted_root() -> Iterator[Path]:
    """The file of an empty one: what is verified by a key only."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(_EMPTY_TRUSTED_ROOT)
        file.flush()
        yield Path(file.name)


def verify_blob(image: Path, key: Path) -> subprocess.CompletedProcess[str]:
    with trusted_root() as root:
        options = [f"--key={key}", f"--bundle={image}.sigstore.json", "--new-bundle-format"]
        options += ["--insecure-ignore-tlog", f"--trusted-root={root}"]
        return run_cosign("verify-blob", *options, str(image))


def verify_blob_attestation(image: Path, key: Path, attestation: str, kind: str) -> subprocess.CompletedProcess[str]:
    options = [f"--key={key}", f"--signature={image}.{attestation}.jsonl", f"--type={kind}", "--insecure-ignore-tlog"]
    return run_cosign("verify-blob-attestation", *options, str(image))
