from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Callable

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.manifest import read_manifest
from unikernel.image.spec import ImageSpec
from unikernel.signing.keys import Message, PrivateKey
from unikernel.signing.policy import Policy
from unikernel.signing.provenance import Artifact, Build, Source
from unikernel.signing.sign import sign_image
from unikernel.signing.verify import Verification, verify_image
from unikernel.testing.images import link_small_image, small_kit
from unikernel.testing.mutations import flip, truncate
from unikernel.testing.signing import KINDS, make_key

_SBOMS = {"spdx": b'{"spdxVersion": "SPDX-2.3", "packages": []}\n', "cdx": b'{"bomFormat": "CycloneDX", "components": []}\n'}
_SOURCE = Source("ab" * 20, False, "https://example.com/r.git")
_MUTATIONS = 60


def _signed_image(directory: Path, key: PrivateKey, *, name: str = "image", development: bool = False, **changes: object) -> Path:
    """An image with all that is made beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    build_directory = directory / "build"
    build_directory.mkdir()
    content = link_small_image(build_directory, small_kit(build_directory), "image.elf", ImageSpec(name))
    image = directory / "image.elf"
    image.write_bytes(content)
    inputs = tuple(Artifact(item.name, item.sha256) for item in read_manifest(build_directory / "image.elf").inputs)
    manifest = (build_directory / "image.json").read_bytes()
    settings = {
        "target": f"src:{name}",
        "fields": {},
        "inputs": inputs,
        "source": _SOURCE,
        "versions": {},
        "development_key": development,
    }
    build = Build(**{**settings, **changes})  # type: ignore[arg-type]
    files = sign_image("image.elf", Message.of(content), manifest, _SBOMS, build, key)
    files["image.json"] = manifest
    files.update({f"image.{kind}.json": content for kind, content in _SBOMS.items()})
    for file, content in files.items():
        (directory / file).write_bytes(content)
    return image


def _failures(result: Verification) -> list[str]:
    return [f"{check.name}: {check.failure}" for check in result.checks if check.failure is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_signed_is_verified_wherever_it_is(tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, kind)
    image = _signed_image(tmp_path / "a", key)
    (tmp_path / "a").rename(tmp_path / "b")
    result = verify_image(tmp_path / "b" / image.name, [key.public], Policy())
    assert _failures(result) == [] and result.holds
    assert result.key == key.public.fingerprint
    assert result.to_text().splitlines()[0].endswith("image.elf: verified")
    document = json.loads(json.dumps(result.to_document()))
    assert document["holds"] and len(document["checks"]) == len(result.checks) > 10


@pytest.mark.parametrize(
    ("policy", "failure"),
    [
        (Policy(keys=("00" * 32,)), "signer: the policy does not name the key"),
        (Policy(repository="https://example.com/other.git"), "source: the source is https://example.com/r.git"),
        (Policy(commit="cd" * 20), "source: the source is commit"),
        (Policy(library_os="nanos"), "library OS: the library OS is linux"),
        (Policy(minimum_version="6.2"), "library OS: the library OS is linux 6.1.1, and the policy demands at least 6.2"),
    ],
)
def test_a_policy_that_is_not_met(tmp_path: Path, policy: Policy, failure: str) -> None:
    key = make_key(tmp_path)
    result = verify_image(_signed_image(tmp_path / "a", key), [key.public], policy)
    assert not result.holds
    assert any(text.startswith(failure) for text in _failures(result))
    assert "NOT VERIFIED" in result.to_text()


def test_a_policy_that_is_met(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    policy = Policy((key.public.fingerprint,), "https://example.com/r.git", "ab" * 20, True, "linux", "6.1")
    assert verify_image(_signed_image(tmp_path / "a", key), [key.public], policy).holds


def test_a_development_key_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    image = _signed_image(tmp_path / "a", key, development=True)
    assert len(_failures(verify_image(image, [key.public], Policy()))) == 1
    assert verify_image(image, [key.public], Policy(development_keys=True)).holds


def test_an_input_that_the_provenance_does_not_have(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    image = _signed_image(tmp_path / "a", key, inputs=(Artifact("kit", "00" * 32),))
    assert any("does not have the input 'init'" in failure for failure in _failures(verify_image(image, [key.public], Policy())))


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="cannot be read: No such file"):
        verify_image(tmp_path / "none.elf", [], Policy())


def test_each_file_has_to_be_there(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    image = _signed_image(tmp_path / "a", key)
    beside = [file for file in image.parent.iterdir() if file.is_file() and file != image]
    assert len(beside) == 7
    for file in beside:
        content = file.read_bytes()
        file.unlink()
        assert any(file.name in failure for failure in _failures(verify_image(image, [key.public], Policy())))
        file.write_bytes(content)
    assert verify_image(image, [key.public], Policy()).holds


def test_files_of_another_image_are_refused(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    image, other = (_signed_image(tmp_path / name, key, name=name) for name in ("a", "b"))
    files = [
        file for file in image.parent.iterdir() if file.is_file() and "spdx.json" not in file.name and "cdx.json" not in file.name
    ]
    assert len(files) == 6
    for file in files:
        content = file.read_bytes()
        file.write_bytes((other.parent / file.name).read_bytes())
        assert not verify_image(image, [key.public], Policy()).holds, file.name
        file.write_bytes(content)


def _append(content: bytes, chance: random.Random) -> bytes:
    return content + chance.choice([b" ", b"\n", b"\0", content])


@pytest.mark.parametrize("mutate", [flip, truncate, _append])
def test_mutations_of_any_file_are_refused(tmp_path: Path, mutate: Callable[[bytes, random.Random], bytes]) -> None:
    key = make_key(tmp_path)
    image = _signed_image(tmp_path / "a", key)
    chance = random.Random(mutate.__name__)
    for file in sorted(file for file in image.parent.iterdir() if file.is_file()):
        content = file.read_bytes()
        for _ in range(_MUTATIONS):
            file.write_bytes(mutate(content, chance))
            assert not verify_image(image, [key.public], Policy()).holds, file.name
        file.write_bytes(content)
    assert verify_image(image, [key.public], Policy()).holds
