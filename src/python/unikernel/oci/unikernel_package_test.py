from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.attachment import ROOTFS_SECTION, read_section
from unikernel.image.manifest import read_manifest
from unikernel.image.pack import Packer, pack_image
from unikernel.image.spec import ImageSpec, Port
from unikernel.library_os import find_library_os
from unikernel.oci.layout import Descriptor
from unikernel.oci.unikernel_package import PackageSettings, write_kraftkit_package, write_package
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.testing.images import link_small_image, small_kit
from unikernel.testing.programs import tiny_program

_SETTINGS = PackageSettings({"team": "web"})
_SPEC = ImageSpec(name="hello", library_os="linux", memory=64 << 20, ports=(Port(80, 8080),))


def _linux(tmp_path: Path) -> Path:
    link_small_image(tmp_path, small_kit(tmp_path), "hello.elf", _SPEC)
    return tmp_path / "hello.elf"


def _packed(tmp_path: Path, name: str, library_os: str, arguments: tuple[str, ...] = (), **environment: str) -> Path:
    layer = Layer("application")
    layer.add_file("/app/hello", tiny_program(tmp_path / "program"))
    start = {"program": "/app/hello", "arguments": ["/app/hello"], "environment": environment}
    layer.write(tmp_path / "application.cpio", LayerIndex("application", [], facts={"start": start}))
    mkfs = tmp_path / "mkfs"
    mkfs.write_text('#!/bin/sh\nfor last; do :; done\ncat > "$last"\n')
    mkfs.chmod(0o755)
    (tmp_path / "boot").write_bytes(b"boot")
    kernel = tiny_program(tmp_path / "kernel")
    description = find_library_os(library_os)
    inputs = {
        name: path for name, path in (("kernel", kernel), ("mkfs", mkfs), ("boot", tmp_path / "boot")) if name in description.inputs
    }
    scratch = tmp_path / f"scratch-{name}"
    scratch.mkdir()
    spec = ImageSpec(name="hello", library_os=library_os, arguments=arguments)
    pack_image(
        spec, Packer(description, "0.16.3", inputs), layers=[tmp_path / "application.cpio"], output=tmp_path / name, scratch=scratch
    )
    return tmp_path / name


def _package(tmp_path: Path, image: Path, name: str = "layout") -> Path:
    scratch = tmp_path / f"scratch-{name}"
    scratch.mkdir()
    write_package(image, _SETTINGS, tmp_path / name, scratch)
    return tmp_path / name


def _blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    content = (layout / Descriptor("", descriptor["digest"], 0).blob).read_bytes()
    assert len(content) == descriptor["size"]
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    return content


def _read(layout: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, tarfile.TarInfo], dict[str, bytes]]:
    """Manifest, configuration, and the members of the one layer with their content."""
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(_blob(layout, entry))
    config = json.loads(_blob(layout, manifest["config"]))
    (layer,) = manifest["layers"]
    archive = gzip.decompress(_blob(layout, layer))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(archive).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        contents = {}
        for member in members.getmembers():
            stream = members.extractfile(member) if member.isfile() else None
            contents[member.name] = stream.read() if stream is not None else b""
        return manifest, config, {member.name: member for member in members.getmembers()}, contents


def test_a_package_of_linux_for_urunc(tmp_path: Path) -> None:
    image = _linux(tmp_path)
    manifest, config, members, contents = _read(_package(tmp_path, image))
    assert contents["unikernel/hello.elf"] == image.read_bytes()
    assert {name: member.mode for name, member in members.items()} == {
        "unikernel": 0o755,
        "unikernel/hello.elf": 0o755,
        "urunc.json": 0o644,
    }
    expected = {
        "com.urunc.unikernel.unikernelType": "linux",
        "com.urunc.unikernel.hypervisor": "qemu",
        "com.urunc.unikernel.binary": "/unikernel/hello.elf",
        "com.urunc.unikernel.cmdline": "/.unikernel/init",
        "com.urunc.unikernel.unikernelVersion": "6.1.1",
    }
    annotations = {name: value for name, value in manifest["annotations"].items() if name.startswith("com.urunc.")}
    assert annotations == expected
    labels = config["config"]["Labels"]
    assert {**labels, **expected, "team": "web"} == labels
    encoded = json.loads(contents["urunc.json"])
    assert {name: base64.b64decode(value).decode() for name, value in encoded.items()} == expected
    assert config["config"]["Entrypoint"] == ["/.unikernel/init"]
    # What the image has in it is not given to it again.
    assert [variable.partition("=")[0] for variable in config["config"]["Env"]] == ["PATH"]
    assert config["config"]["ExposedPorts"] == {"80/tcp": {}}
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert manifest["annotations"]["unikernel.memory"] == str(64 << 20)
    assert manifest["annotations"]["unikernel.image.sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()


def test_the_same_image_gives_the_same_bytes(tmp_path: Path) -> None:
    image = _linux(tmp_path)
    layouts = [_package(tmp_path, image, name) for name in ("one", "other")]
    first, second = (
        {str(path.relative_to(layout)): path.read_bytes() for path in layout.rglob("*") if path.is_file()} for layout in layouts
    )
    assert first == second


def test_a_kernel_and_its_root_file_system_are_two_files(tmp_path: Path) -> None:
    image = _packed(tmp_path, "hello.elf", "unikraft", ("7", "two words"), A="1")
    manifest, config, _, contents = _read(_package(tmp_path, image))
    packed = io.BytesIO()
    read_section(image, ROOTFS_SECTION, packed)
    assert contents["unikernel/initrd"] == packed.getvalue()
    kernel = (tmp_path / "kernel").read_bytes()
    # All that is loaded: what differs is where the ELF header says that sections are.
    assert contents["unikernel/kernel"][64 : len(kernel)] == kernel[64:]
    assert len(contents["unikernel/kernel"]) < len(kernel) + 4096
    assert manifest["annotations"]["com.urunc.unikernel.initrd"] == "/unikernel/initrd"
    assert manifest["annotations"]["com.urunc.unikernel.unikernelVersion"] == "0.16.3"
    assert config["config"]["Entrypoint"] == ["hello", "/app/hello", '"7"', '"two words"']
    assert "A=1" in config["config"]["Env"]


def test_variables_that_urunc_cannot_pass_on_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _package(tmp_path, _packed(tmp_path, "hello.elf", "unikraft", GREETING="hi there"))
    assert "urunc passes variables on without quotes: GREETING will not arrive as it is" in capsys.readouterr().err


def test_a_disk_is_a_container_disk(tmp_path: Path) -> None:
    image = _packed(tmp_path, "hello.img", "nanos")
    manifest, config, members, contents = _read(_package(tmp_path, image))
    assert contents["disk/hello.img"] == image.read_bytes()
    assert [name for name in members if name.startswith("disk/")] == ["disk/hello.img"]
    assert (members["disk/hello.img"].uid, members["disk/hello.img"].gid) == (107, 107)
    assert not [name for name in manifest["annotations"] if name.startswith("com.urunc.")]
    assert config["config"]["Entrypoint"] == ["/disk/hello.img"]


def test_a_package_for_kraftkit(tmp_path: Path) -> None:
    image = _packed(tmp_path, "hello.elf", "unikraft", ("7",), A="1")
    scratch = tmp_path / "scratch-kraftkit"
    scratch.mkdir()
    layout = tmp_path / "layout"
    write_kraftkit_package(image, _SETTINGS, layout, scratch)
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    (inner,) = json.loads(_blob(layout, entry))["manifests"]
    assert inner["platform"] == {"architecture": "x86_64", "os": "qemu"}
    manifest = json.loads(_blob(layout, inner))
    config = json.loads(_blob(layout, manifest["config"]))
    assert (config["architecture"], config["os"]) == ("x86_64", "qemu")
    assert (config["config"]["Cmd"], config["config"]["Env"][0]) == (["/app/hello", "7"], "A=1")
    found = {}
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"]):
        assert layer["digest"] == diff_id
        with tarfile.open(fileobj=io.BytesIO(_blob(layout, layer))) as archive:
            (file,) = (member for member in archive.getmembers() if member.isfile())
            found[f"/{file.name}"] = layer["annotations"]
    assert found == {
        "/unikraft/bin/kernel": {"org.unikraft.kernel.image": "/unikraft/bin/kernel"},
        "/unikraft/bin/initrd": {"org.unikraft.kernel.initrd": "/unikraft/bin/initrd"},
    }


def test_no_package_for_kraftkit_of_another_library_os(tmp_path: Path) -> None:
    image = _linux(tmp_path)
    assert read_manifest(image).library_os.name == "linux"
    with pytest.raises(UnikernelError, match="is no image that KraftKit knows: it is one of linux"):
        write_kraftkit_package(image, _SETTINGS, tmp_path / "layout", tmp_path)
