"""The real cosign verifies what is made here, and signs with keys that are read here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from unikernel.signing.keys import Message, PrivateKey
from unikernel.signing.provenance import Build, Source
from unikernel.signing.sign import sign_image
from unikernel.testing.cosign import ATTESTATIONS, cosign, verify_blob, verify_blob_attestation
from unikernel.testing.signing import KINDS, make_key

_IMAGE = b"image" * 1000
_SBOMS = {"spdx": b'{"spdxVersion": "SPDX-2.3"}\n', "cdx": b'{"bomFormat": "CycloneDX"}\n'}


def _sign(directory: Path, key: PrivateKey) -> Path:
    image = directory / "image.elf"
    image.write_bytes(_IMAGE)
    _key(image).write_text(key.public.pem)
    build = Build("a:b", {}, (), Source("ab" * 20, False), {"pants": "2"}, False)
    for name, content in sign_image(image.name, Message.of(_IMAGE), b"{}\n", _SBOMS, build, key).items():
        (directory / name).write_bytes(content)
    return image


def _key(image: Path) -> Path:
    return image.parent / "key.pub"


@pytest.mark.parametrize("kind", KINDS)
def test_cosign_verifies_the_image_and_what_is_attested_of_it(tmp_path: Path, kind: str) -> None:
    image = _sign(tmp_path, make_key(tmp_path, kind))
    printed = verify_blob(image, _key(image))
    assert printed.returncode == 0, printed.stdout
    for attestation, predicate in ATTESTATIONS.items():
        printed = verify_blob_attestation(image, _key(image), attestation, predicate)
        assert printed.returncode == 0, printed.stdout
    assert verify_blob_attestation(image, _key(image), "intoto", "spdxjson").returncode != 0
    image.write_bytes(_IMAGE + b"\0")
    assert verify_blob(image, _key(image)).returncode != 0
    assert verify_blob_attestation(image, _key(image), "intoto", "slsaprovenance1").returncode != 0


@pytest.mark.parametrize("kind", KINDS)
def test_cosign_refuses_another_key(tmp_path: Path, kind: str) -> None:
    image = _sign(tmp_path, make_key(tmp_path, kind))
    _key(image).write_text(make_key(tmp_path, kind, "other.pem").public.pem)
    assert verify_blob(image, _key(image)).returncode != 0
    assert verify_blob_attestation(image, _key(image), "intoto", "slsaprovenance1").returncode != 0


def test_a_key_that_cosign_made(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "COSIGN_PASSWORD": "secret"}
    subprocess.run([cosign(), "generate-key-pair"], cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    key = PrivateKey.load(tmp_path / "cosign.key", b"secret")
    assert key.public.pem == (tmp_path / "cosign.pub").read_text()
    image = _sign(tmp_path, key)
    assert verify_blob(image, _key(image)).returncode == 0
