from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.manifest_pb2 import Start
from unikernel.image.spec import ImageSpec, Port
from unikernel.oci.container import ContainerSettings, write_container, write_docker_archive
from unikernel.oci.layout import Descriptor
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.merge import merged_rootfs

_START = Start(
    program="/usr/bin/python3.11",
    arguments=["python3.11", "-s", "/app/__main__.py"],
    environment=["A=1"],
    working_directory="/srv",
)
_SETTINGS = ContainerSettings("greeter", "x86_64", "greeter:latest", ports=["8080/tcp"], user="1000:1000", labels={"team": "web"})
_LAYERS: dict[str, dict[str, bytes]] = {
    "base": {"/etc/passwd": b"root", "/etc/hosts": b"localhost"},
    "application": {"/app/__main__.py": b"print()", "/etc/hosts": b"mine"},
    "distributions": {"/usr/lib/python3.11/site-packages/a.py": b"a" * 9000},
    "python": {"/usr/bin/python3.11": b"python"},
}


def _archives(tmp_path: Path, layers: Mapping[str, Mapping[str, bytes]]) -> list[Path]:
    archives = []
    for name, files in layers.items():
        layer = Layer(name)
        for path, content in files.items():
            layer.add_bytes(path, content, 0o755 if "bin" in path else 0o644)
        if name == "base":
            layer.add_directory("/tmp", 0o1777)
            layer.add_symlink("/var/run", "/run")
            layer.add_character_device("/dev/console", 5, 1, 0o600)
        archives.append(tmp_path / f"{name}.cpio")
        layer.write(archives[-1], LayerIndex(name, []))
    return archives


def _container(
    tmp_path: Path, layers: Mapping[str, Mapping[str, bytes]] = _LAYERS, name: str = "layout"
) -> tuple[Path, Descriptor]:
    root, scratch = tmp_path / name, tmp_path / f"scratch-{name}"
    scratch.mkdir()
    with merged_rootfs(_archives(tmp_path, layers)) as rootfs:
        return root, write_container(rootfs, _START, _SETTINGS, root, scratch)


def _read(root: Path, descriptor: Mapping[str, Any]) -> bytes:
    content = (root / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    assert (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)) == (descriptor["digest"], descriptor["size"])
    return content


def _manifest(root: Path) -> dict[str, Any]:
    index = json.loads((root / "index.json").read_bytes())
    (image,) = index["manifests"]
    assert image["platform"] == {"architecture": "amd64", "os": "linux"}
    document: dict[str, Any] = json.loads(_read(root, image))
    return document


def _tree(root: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """What unpacking the layers, one after another, gives."""
    tree: dict[str, tuple[int, bytes | str | None]] = {}
    for layer in _manifest(root)["layers"]:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(_read(root, layer)))) as archive:
            for member in archive:
                content: bytes | str | None = None
                if member.isfile():
                    stream = archive.extractfile(member)
                    assert stream is not None
                    content = stream.read()
                elif member.issym():
                    content = member.linkname
                assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", 315532800)
                tree["/" + member.name] = (member.mode, content)
    return tree


def test_a_container_has_the_files_of_the_root_file_system(tmp_path: Path) -> None:
    root, _ = _container(tmp_path)
    with merged_rootfs([tmp_path / f"{name}.cpio" for name in _LAYERS]) as rootfs:
        expected = {}
        for path, entry in rootfs.entries.items():
            content = entry.target if entry.target is not None else entry.open().read() if stat.S_ISREG(entry.mode) else None
            expected[path] = (stat.S_IMODE(entry.mode), content)
    assert _tree(root) == expected
    assert expected["/etc/hosts"] == (0o644, b"mine") and expected["/tmp"] == (0o1777, None)


def test_it_is_started_as_the_unikernel_is(tmp_path: Path) -> None:
    root, _ = _container(tmp_path)
    config = json.loads(_read(root, _manifest(root)["config"]))
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert config["config"] == {
        "Entrypoint": ["/usr/bin/python3.11", "-s", "/app/__main__.py"],
        "Env": ["A=1"],
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"org.opencontainers.image.title": "greeter", "team": "web"},
        "User": "1000:1000",
        "WorkingDir": "/srv",
    }
    layers = [gzip.decompress(_read(root, layer)) for layer in _manifest(root)["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]


def test_layers_change_independently(tmp_path: Path) -> None:
    digests = []
    for number, layers in enumerate(
        (
            _LAYERS,
            {**_LAYERS, "application": {"/app/__main__.py": b"changed", "/etc/hosts": b"mine"}},
            {**_LAYERS, "distributions": {"/usr/lib/python3.11/site-packages/a.py": b"changed"}},
        )
    ):
        root, _ = _container(tmp_path, layers, f"layout{number}")
        config = json.loads(_read(root, _manifest(root)["config"]))
        names = [entry["created_by"].rpartition(" ")[2] for entry in config["history"]]
        digests.append(dict(zip(names, (layer["digest"] for layer in _manifest(root)["layers"]))))
    assert list(digests[0]) == ["python", "distributions", "base", "application"]
    assert [name for name in digests[0] if digests[0][name] != digests[1][name]] == ["application"]
    assert [name for name in digests[0] if digests[0][name] != digests[2][name]] == ["distributions"]


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    _, first = _container(tmp_path, name="first")
    root, second = _container(tmp_path, name="second")
    assert first == second
    write_docker_archive(root, second, "greeter:latest", tmp_path / "a.tar")
    write_docker_archive(tmp_path / "first", first, "greeter:latest", tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_an_archive_for_docker_names_its_blobs(tmp_path: Path) -> None:
    root, manifest = _container(tmp_path)
    write_docker_archive(root, manifest, "greeter:latest", tmp_path / "image.tar")
    with tarfile.open(tmp_path / "image.tar") as archive:
        stream = archive.extractfile("manifest.json")
        assert stream is not None
        (image,) = json.load(stream)
        assert image["RepoTags"] == ["greeter:latest"]
        for name in (image["Config"], *image["Layers"]):
            content = archive.extractfile(name)
            assert content is not None and hashlib.sha256(content.read()).hexdigest() == name.rpartition("/")[2]
        assert "oci-layout" in archive.getnames() and "index.json" in archive.getnames()


def test_a_layout_is_not_written_over(tmp_path: Path) -> None:
    root, _ = _container(tmp_path)
    with merged_rootfs(_archives(tmp_path, _LAYERS)) as rootfs, pytest.raises(FileExistsError):
        write_container(rootfs, _START, _SETTINGS, root, tmp_path)


def test_owners_and_odd_names_are_kept(tmp_path: Path) -> None:
    odd = os.fsdecode(b"/home/latin-\xe9")
    layer = Layer("application")
    layer.add_directory("/home", 0o700, (1000, 1001))
    layer.add_symlink("/home/link", odd, (1000, 0))
    layer.add_bytes(odd, b"content")
    layer.write(tmp_path / "application.cpio", LayerIndex("application", []))
    (tmp_path / "scratch").mkdir()
    with merged_rootfs([tmp_path / "application.cpio"]) as rootfs:
        write_container(rootfs, _START, _SETTINGS, tmp_path / "layout", tmp_path / "scratch")
    content = gzip.decompress(_read(tmp_path / "layout", _manifest(tmp_path / "layout")["layers"][0]))
    with tarfile.open(fileobj=io.BytesIO(content), encoding="utf-8") as archive:
        members = {member.name: (member.uid, member.gid, member.linkname) for member in archive}
    assert members == {"home": (1000, 1001, ""), "home/link": (1000, 0, odd), odd[1:]: (0, 0, "")}


def test_settings_are_read_from_a_document(tmp_path: Path) -> None:
    path = tmp_path / "container.json"
    path.write_text(json.dumps({"tag": "a/b:latest", "user": "app", "labels": {"a": "b"}}))
    spec = ImageSpec("image", ports=(Port(80, 8080), Port(53, 53, "udp")))
    settings = ContainerSettings.read(path, spec)
    assert settings == ContainerSettings("image", "x86_64", "a/b:latest", ["80/tcp", "53/udp"], "app", {"a": "b"})
    path.write_text("{}")
    assert ContainerSettings.read(path, replace(spec, user="1000:1000")).user == "1000:1000"
    path.write_text("[]")
    with pytest.raises(UnikernelError, match="does not describe a container image"):
        ContainerSettings.read(path, spec)
    path.write_text('{"colour": "red"}')
    with pytest.raises(UnikernelError, match="does not describe a container image: .*colour"):
        ContainerSettings.read(path, spec)
