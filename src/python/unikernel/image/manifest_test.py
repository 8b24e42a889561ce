from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.image import manifest as image_manifest
from unikernel.image.attachment import append_trailer
from unikernel.image.inspect import describe
from unikernel.image.manifest_pb2 import Layer, LibraryOs, Manifest, Network, Port, Rootfs, Start
from unikernel.testing.images import image_with_note
from unikernel.testing.programs import program


def _manifest(**changes: object) -> Manifest:
    settings = {
        "name": "greeter",
        "library_os": LibraryOs(name="linux", version="6.1.1"),
        "rootfs": Rootfs(sha256="ab", size=3, layers=[Layer(name="base", sha256="cd", size=3)]),
        "start": Start(program="/app/a", arguments=["/app/a", "two words"], environment=["A=1"], working_directory="/"),
        "memory_bytes": 64 << 20,
        "cpus": 1,
        "network": Network(mode="static", address="10.0.2.15/24", gateway="10.0.2.2", nameservers=["1.1.1.1", "8.8.8.8"]),
        "ports": [Port(guest_port=80, host_port=8080, protocol="tcp")],
        **changes,
    }
    return Manifest(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a", "four", "fives"])
def test_a_manifest_is_read_back_from_an_image(tmp_path: Path, name: str) -> None:
    # Descriptors of all lengths: they are padded.
    manifest = _manifest(name=name)
    image = image_with_note(tmp_path / "image", image_manifest.encode(manifest))
    assert image_manifest.read_manifest(image) == manifest
    assert manifest.schema_version == image_manifest.SCHEMA_VERSION


def test_the_note_is_well_formed_for_other_tools_too(tmp_path: Path) -> None:
    image = image_with_note(tmp_path / "image", image_manifest.encode(_manifest()))
    printed = subprocess.run(
        ["readelf", "-nW", str(image)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ).stdout
    assert "unikernel" in printed
    assert "arning" not in printed


def test_an_encoded_manifest_is_the_same_bytes_again() -> None:
    assert image_manifest.encode(_manifest()) == image_manifest.encode(_manifest())


def test_json_has_the_fields_by_their_names() -> None:
    text = image_manifest.to_json(_manifest())
    assert '"memory_bytes": "67108864"' in text
    assert '"host_port": 8080' in text


def test_a_file_that_is_no_elf_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(UnikernelError, match="text is no unikernel image: it is neither an ELF file .* nor a disk"):
        image_manifest.read_manifest(tmp_path / "text")


def test_a_manifest_is_read_back_from_a_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"disk" * 300)
    manifest = _manifest(not_reproducible=True)
    append_trailer(disk, image_manifest.note(image_manifest.encode(manifest)), tmp_path / "image.img")
    assert image_manifest.read_manifest(tmp_path / "image.img") == manifest
    assert "reproducible" in describe(manifest, disk)


@pytest.mark.parametrize("note", [b"", b"short", image_manifest.note(b"x").replace(b"unikernel", b"something")])
def test_a_disk_with_another_trailer_is_no_image(tmp_path: Path, note: bytes) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"disk")
    append_trailer(disk, note, tmp_path / "image.img")
    with pytest.raises(UnikernelError, match="there is no 'unikernel' note in it"):
        image_manifest.read_manifest(tmp_path / "image.img")


def test_a_program_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="is no unikernel image: there is no 'unikernel' note"):
        image_manifest.read_manifest(program(tmp_path / "a"))


@pytest.mark.parametrize("path", ["none", "."])
def test_what_cannot_be_read_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnikernelError, match="cannot be read: "):
        image_manifest.read_manifest(tmp_path / path)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="The manifest of .*image is damaged"):
        image_manifest.read_manifest(image_with_note(tmp_path / "image", b"\xff\xff\xff\xff"))


@pytest.mark.parametrize("version", [0, image_manifest.SCHEMA_VERSION + 1])
def test_a_manifest_of_another_schema_is_refused(tmp_path: Path, version: int) -> None:
    descriptor = Manifest(schema_version=version, name="x").SerializeToString()
    with pytest.raises(UnikernelError, match=f"has schema version {version}"):
        image_manifest.read_manifest(image_with_note(tmp_path / "image", descriptor))


def test_damaged_images_never_raise_anything_else(tmp_path: Path) -> None:
    whole = image_with_note(tmp_path / "image", image_manifest.encode(_manifest())).read_bytes()
    chance = random.Random(2)
    damaged = tmp_path / "damaged"
    refused = 0
    for _ in range(200):
        data = bytearray(whole[: chance.choice((len(whole), chance.randrange(len(whole))))])
        for _ in range(chance.randrange(1, 6)):
            if data:
                data[chance.randrange(min(len(data), 400))] = chance.randrange(256)
        damaged.write_bytes(data)
        try:
            image_manifest.read_manifest(damaged)
        except UnikernelError:
            refused += 1
    assert refused > 20


def test_a_description_for_people(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"12345")
    text = describe(_manifest(), image)
    assert f"{image} (5 bytes)" in text
    assert "static, 10.0.2.15/24, gateway 10.0.2.2, name servers 1.1.1.1 8.8.8.8" in text
    assert "/app/a 'two words'" in text
    assert "64 MiB" in text
    assert "8080:80/tcp" in text
    assert "linux 6.1.1" in text
    # What is empty is left out.
    assert "target" not in text


def test_generated_code_is_that_of_the_schema(tmp_path: Path) -> None:
    package = Path(image_manifest.__file__).parent
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{package.parent.parent}",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
    ]
    subprocess.run([*command, "unikernel/image/manifest.proto"], check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)})
    for name in ("manifest_pb2.py", "manifest_pb2.pyi"):
        assert (tmp_path / "unikernel/image" / name).read_text() == (package / name).read_text(), f"{name}: see docs/development.md"
