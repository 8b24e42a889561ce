from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from unikernel.signing.files import signature_paths
from unikernel.signing.keys import Message, PrivateKey, PublicKey
from unikernel.signing.provenance import Artifact, Build, Source
from unikernel.signing.sign import sign_image
from unikernel.testing.signing import KINDS, make_key

_SBOMS = {"spdx": b'{"spdxVersion": "SPDX-2.3"}\n', "cdx": b'{"bomFormat": "CycloneDX"}\n'}
_BUILD = Build("src:image", {"cpus": 1}, (Artifact("kit", "00" * 32),), Source("ab" * 20, False), {}, False)
_IMAGE = Message.of(b"image")


@dataclass
class _CountingSigner:
    key: PrivateKey
    signed: list[bytes] = field(default_factory=list)

    @property
    def public(self) -> PublicKey:
        return self.key.public

    def sign(self, message: Message) -> bytes:
        self.signed.append(message.sha256)
        return self.key.sign(message)


@pytest.fixture(params=KINDS)
def signer(request: Any, tmp_path: Path) -> _CountingSigner:
    return _CountingSigner(make_key(tmp_path, request.param))


def _sign(
    signer: _CountingSigner, previous: dict[str, bytes], *, message: Message = _IMAGE, build: Build = _BUILD
) -> dict[str, bytes]:
    return sign_image("image.elf", message, b"{}\n", _SBOMS, build, signer, previous.get)


def test_files_are_the_same_whenever_they_are_made(signer: _CountingSigner) -> None:
    files = _sign(signer, {})
    assert sorted(files) == sorted(signature_paths("image.elf"))
    assert _sign(signer, {}) == files
    assert len(signer.signed) == 8


def test_what_holds_is_not_signed_again(signer: _CountingSigner) -> None:
    files = _sign(signer, {})
    signer.signed.clear()
    assert _sign(signer, files) == files
    assert signer.signed == []


def test_another_provenance_is_signed_alone(signer: _CountingSigner) -> None:
    files = _sign(signer, {})
    signer.signed.clear()
    # True and 1 are the same to Python, and not in a document.
    for build in (replace(_BUILD, source=Source("cd" * 20, False)), replace(_BUILD, fields={"cpus": True})):
        again = _sign(signer, files, build=build)
        assert {name for name in files if again[name] != files[name]} == {"image.elf.intoto.jsonl"}
    assert len(signer.signed) == 2


def test_signatures_of_another_image_or_key_and_damaged_ones_do_not_stay(signer: _CountingSigner, tmp_path: Path) -> None:
    files = _sign(signer, {})
    other = _sign(_CountingSigner(make_key(tmp_path, name="other.pem")), {})
    damaged = {name: content[:-3] + b"x" + content[-2:] for name, content in files.items()}
    swapped = dict(zip(files, reversed(list(files.values()))))
    for previous in (other, damaged, swapped, _sign(signer, {}, message=Message.of(b"another"))):
        signer.signed.clear()
        assert _sign(signer, previous) == files
        assert len(signer.signed) == 4
