from __future__ import annotations

import json
import random
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unikernel.errors import UnikernelError
from unikernel.rootfs.docker_archive import SavedImage, read_image, uncompressed
from unikernel.rootfs.docker_image import build_docker_application
from unikernel.rootfs.image_tree import ImageTree
from unikernel.testing.docker_archives import directory, hard_link, link, member, tar, write_image
from unikernel.testing.mutations import flip, truncate
from unikernel.testing.programs import tiny_program

_LAYERS = [tar(member("a", b"one")), tar(member("b", b"two" * 400), member(".wh.a"))]


def _tree(image: SavedImage, scratch: Path) -> list[str]:
    tree = ImageTree()
    for number, layer in enumerate(image.layers, 1):
        tree.apply(uncompressed(layer, scratch / f"{number}.tar", "it"), number, scratch, "it")
    return [path for path, _ in tree.entries()]


@pytest.mark.parametrize("is_oci", [True, False])
@pytest.mark.parametrize("is_compressed", [True, False])
def test_archives_of_all_forms(tmp_path: Path, is_oci: bool, is_compressed: bool) -> None:
    image_id = write_image(tmp_path / "image.tar", _LAYERS, is_oci=is_oci, is_compressed=is_compressed)
    image = read_image(tmp_path / "image.tar", image_id)
    assert f"sha256:{image.digest}" == image_id
    assert len(image.layers) == 2 and _tree(image, tmp_path) == ["/b"]
    assert [path.name for path in sorted(tmp_path.glob("*.tar"))] == (["1.tar", "2.tar"] if is_compressed else []) + ["image.tar"]


def test_an_image_without_layers(tmp_path: Path) -> None:
    write_image(tmp_path / "image.tar", [])
    assert read_image(tmp_path / "image.tar").layers == ()
    write_image(tmp_path / "null.tar", [], rootfs={"type": "layers", "diff_ids": None})
    assert read_image(tmp_path / "null.tar").layers == ()


def test_a_layer_that_another_one_equals_may_be_a_link_to_it(tmp_path: Path) -> None:
    write_image(tmp_path / "image.tar", [_LAYERS[0]] * 2, is_oci=False)
    with tarfile.open(tmp_path / "image.tar") as archive:
        archive.extractall(tmp_path / "files")
    second = tmp_path / "files" / f"{1:064x}" / "layer.tar"
    second.unlink()
    second.symlink_to(f"../{0:064x}/layer.tar")
    subprocess.run(["tar", "-cf", str(tmp_path / "linked.tar"), "-C", str(tmp_path / "files"), "."], check=True)
    image = read_image(tmp_path / "linked.tar")
    assert image.layers[0] == image.layers[1] and _tree(image, tmp_path) == ["/a"]


def _config(tmp_path: Path, config: Mapping[str, Any], **changes: Any) -> Any:
    write_image(tmp_path / "image.tar", [], config, **changes)
    return read_image(tmp_path / "image.tar").config


def test_the_configuration(tmp_path: Path) -> None:
    config = _config(
        tmp_path,
        {
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["echo ü"],
            "Env": ["A=1", "B=x=y", "C=", "UNSET", "=x", "A=2"],
            "WorkingDir": "/srv",
            "User": "app:staff",
            "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "80": {}, "9000-9002/tcp": {}, "7/sctp": {}},
            "Volumes": {"/data": {}, "/cache": {}},
        },
    )
    assert (config.operating_system, config.architecture) == ("linux", "amd64")
    assert (config.entrypoint, config.command) == (("/bin/sh", "-c"), ("echo ü",))
    assert config.environment == {"A": "2", "B": "x=y", "C": ""}
    assert (config.working_directory, config.user, config.volumes) == ("/srv", "app:staff", ("/cache", "/data"))
    assert config.ports == ("53/udp", "80/tcp", "8080/tcp", "9000/tcp", "9001/tcp", "9002/tcp")
    assert config.unusable_ports == ("7/sctp",)


@pytest.mark.parametrize("config", [None, {}, {"Entrypoint": None, "Cmd": None, "Env": None, "ExposedPorts": None}])
def test_a_configuration_that_says_nothing(tmp_path: Path, config: Any) -> None:
    read = _config(tmp_path, config)
    assert (read.entrypoint, read.command, read.environment, read.ports) == ((), (), {}, ())
    assert (read.working_directory, read.user) == ("/", "")


def test_old_forms_of_a_configuration(tmp_path: Path) -> None:
    read = _config(tmp_path, {"Entrypoint": [""], "Cmd": "/a", "WorkingDir": "srv"})
    assert (read.entrypoint, read.command, read.working_directory) == ((), ("/a",), "/srv")


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"Env": [1]}, "1 is no text"),
        ({"Env": {"A": [2]}, "Cmd": [["a"]]}, r"\['a'\] is no text"),
        ({"ExposedPorts": {"http": {}}}, "'http' is no port"),
        ({"ExposedPorts": {"70000/tcp": {}}}, "is no port"),
        ({"ExposedPorts": {"80/quic": {}}}, "is no port"),
        ({"User": 1000}, "1000 is no text"),
        ({"Cmd": ["\udcff"]}, "surrogates not allowed"),
        (["a"], "damaged"),
    ],
)
def test_a_configuration_with_nonsense_is_named(tmp_path: Path, config: Any, part: str) -> None:
    with pytest.raises(UnikernelError, match=f"image.tar of a Docker image is damaged or cut off .*{part}|{part}"):
        _config(tmp_path, config)


def _rewritten(tmp_path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """An archive whose files are changed."""
    write_image(tmp_path / "image.tar", _LAYERS)
    with tarfile.open(tmp_path / "image.tar") as archive:
        files = {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]
    change(files)
    (tmp_path / "changed.tar").write_bytes(tar(*(member(name, content) for name, content in files.items())))
    return tmp_path / "changed.tar"


def _manifest(files: dict[str, bytes]) -> Any:
    return json.loads(files["manifest.json"])[0]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda files: files.pop("manifest.json"), "has no manifest.json"),
        (lambda files: files.update({"manifest.json": b"{"}), "damaged or cut off"),
        (lambda files: files.update({"manifest.json": b"[]"}), "holds 0 images"),
        (lambda files: files.update({"manifest.json": json.dumps([_manifest(files)] * 2).encode()}), "holds 2 images"),
        (lambda files: files.pop(_manifest(files)["Layers"][1]), "has no file 'blobs/sha256/"),
        (lambda files: files.pop(_manifest(files)["Config"]), "has no file 'blobs/sha256/"),
        (lambda files: files.update({_manifest(files)["Config"]: b"{}"}), "another digest than its name says"),
        (
            lambda files: files.update({"manifest.json": json.dumps([{**_manifest(files), "Layers": []}]).encode()}),
            "it has 0 layers, and its configuration 2",
        ),
        (lambda files: files.update({"manifest.json": b"[" * 100000}), "damaged or cut off"),
        (lambda files: files.update({"manifest.json": b" " * (17 << 20)}), "manifest.json has 17825792 bytes"),
    ],
)
def test_an_archive_that_lacks_something_is_named(tmp_path: Path, change: Any, part: str) -> None:
    with pytest.raises(UnikernelError, match=part):
        read_image(_rewritten(tmp_path, change))


def test_a_layer_is_held_against_its_digest(tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        name = _manifest(files)["Layers"][1]
        files[name] = files[name].replace(b"twotwo", b"twoTwo")

    image = read_image(_rewritten(tmp_path, change))
    with pytest.raises(UnikernelError, match="it is damaged or cut off .it has another digest"):
        _tree(image, tmp_path)


def test_a_layer_by_zstd_is_named(tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        files[_manifest(files)["Layers"][1]] = b"\x28\xb5\x2f\xfd" + bytes(100)

    with pytest.raises(UnikernelError, match="compressed by zstd"):
        _tree(read_image(_rewritten(tmp_path, change)), tmp_path)


def test_an_archive_of_another_image_is_refused(tmp_path: Path) -> None:
    image_id = write_image(tmp_path / "image.tar", [])
    assert read_image(tmp_path / "image.tar", image_id[7:19])
    with pytest.raises(UnikernelError, match=f"holds the image {image_id}, and not sha256:000"):
        read_image(tmp_path / "image.tar", f"sha256:{0:064x}")


def test_an_image_may_be_known_by_its_manifest(tmp_path: Path) -> None:
    archive = _rewritten(tmp_path, lambda files: files.update({f"blobs/sha256/{7:064x}": b"{}"}))
    assert read_image(archive, f"sha256:{7:064x}")


def test_of_several_images_the_one_that_is_meant_is_taken(tmp_path: Path) -> None:
    def change(files: dict[str, bytes]) -> None:
        other = {"Config": f"blobs/sha256/{1:064x}", "Layers": []}
        files["manifest.json"] = json.dumps([other, _manifest(files)]).encode()

    image_id = write_image(tmp_path / "image.tar", _LAYERS)
    assert len(read_image(_rewritten(tmp_path, change), image_id).layers) == 2


@pytest.mark.parametrize("content", [b"", b"text", bytes(10240), b"\x1f\x8b" + bytes(600)])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image.tar").write_bytes(content)
    with pytest.raises(UnikernelError, match="The archive image.tar of a Docker image"):
        read_image(tmp_path / "image.tar")


# --- damage -------------------------------------------------------------------------------------------------------

_MUTATIONS = 120


def _swap(content: bytes, chance: random.Random) -> bytes:
    """A block of 512 bytes in the place of another, each of which is a good header, perhaps."""
    blocks = len(content) // 512
    source, place = chance.randrange(blocks) * 512, chance.randrange(blocks) * 512
    return content[:place] + content[source : source + 512] + content[place + 512 :]


def _checksummed(content: bytes, chance: random.Random) -> bytes:
    """A header with a field of nonsense, and the checksum of that."""
    starts = [position - 257 for position in _positions(content, b"ustar")]
    start = chance.choice(starts)
    header = bytearray(content[start : start + 512])
    # Mode, uid, gid, size, mtime, type, link's name, and the numbers of a device.
    field, length = chance.choice([(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (329, 8), (337, 8)])
    nonsense = [bytes([0xFF]) * length, b"\x80" + bytes(length - 1), b"7" * length, bytes(length), b"-1".ljust(length, b"\0")]
    header[field : field + length] = chance.choice([*nonsense, bytes(chance.randrange(256) for _ in range(length))])[:length]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:start] + bytes(header) + content[start + 512 :]


def _positions(content: bytes, part: bytes) -> list[int]:
    positions, position = [], content.find(part)
    while position >= 0:
        positions.append(position)
        position = content.find(part, position + 1)
    return positions


@pytest.mark.parametrize("mutate", [flip, truncate, _swap, _checksummed])
@pytest.mark.parametrize("is_compressed", [True, False])
def test_damage_is_an_error_or_changes_nothing(tmp_path: Path, mutate: Any, is_compressed: bool) -> None:
    program = tiny_program(tmp_path / "program").read_bytes()
    lower = tar(member("bin/app", program, mode=0o755), directory("d"), member("d/a", b"a" * 600), link("l", "d"))
    upper = tar(hard_link("b", "d/a"), member("d/.wh.a"), member("ü" * 120, b"", pax_headers={"SCHILY.xattr.user.a": "1"}))
    config = {"Entrypoint": ["app"], "ExposedPorts": {"80/tcp": {}}}
    image_id = write_image(tmp_path / "image.tar", [lower, upper], config, is_compressed=is_compressed)
    content = (tmp_path / "image.tar").read_bytes()
    expected = _built(tmp_path, content, image_id)
    assert isinstance(expected, bytes)
    chance = random.Random(f"{mutate.__name__} {is_compressed}")
    refused = 0
    for _ in range(_MUTATIONS):
        built = _built(tmp_path, mutate(content, chance), image_id)
        refused += built is None
        # What is damaged is refused, unless it is what nothing depends on (a time in a header, zeros behind the end).
        assert built in (None, expected)
    assert refused > _MUTATIONS / 4


@pytest.mark.parametrize("mutate", [flip, truncate, _swap, _checksummed])
def test_a_layer_with_nonsense_in_it_is_an_error_or_is_laid_out(tmp_path: Path, mutate: Any) -> None:
    program = tiny_program(tmp_path / "program").read_bytes()
    layer = tar(
        *(member("bin/app", program, mode=0o755), directory("d"), member("d/a", b"a" * 600), link("l", "d"), hard_link("b", "d/a")),
        *(member("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3), member("ü" * 120, b"", pax_headers={"SCHILY.xattr.a": "1"})),
    )
    chance = random.Random(mutate.__name__)
    for _ in range(_MUTATIONS):
        # Its digest is right: somebody made it so.
        image_id = write_image(tmp_path / "image.tar", [mutate(layer, chance)], {"Entrypoint": ["/bin/app"]})
        _built(tmp_path, (tmp_path / "image.tar").read_bytes(), image_id)


def _built(tmp_path: Path, content: bytes, image_id: str) -> bytes | None:
    """The layer's archive, or None for an error."""
    (tmp_path / "mutated.tar").write_bytes(content)
    scratch = tmp_path / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        application = build_docker_application(tmp_path / "mutated.tar", image_id=image_id, machine="x86_64", scratch=scratch)
    except UnikernelError:
        return None
    application.layer.write(tmp_path / "out.cpio", application.index)
    return (tmp_path / "out.cpio").read_bytes()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
_names = st.sampled_from(["Entrypoint", "Cmd", "Env", "WorkingDir", "User", "ExposedPorts", "Volumes"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_json | st.dictionaries(_names, _json, max_size=5))
def test_any_configuration_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, config: Any) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    try:
        write_image(tmp_path / "image.tar", [], config)
        build_docker_application(tmp_path / "image.tar", machine="x86_64", scratch=tmp_path)
    except UnikernelError:
        pass
    else:
        raise AssertionError("there is no program in it")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_json | st.lists(st.dictionaries(st.sampled_from(["Config", "Layers"]), _json, max_size=2), max_size=2))
def test_any_manifest_is_refused(tmp_path_factory: pytest.TempPathFactory, manifest: Any) -> None:
    tmp_path = tmp_path_factory.mktemp("any")
    (tmp_path / "image.tar").write_bytes(tar(member("manifest.json", json.dumps(manifest).encode()), member("a", b"{}")))
    with pytest.raises(UnikernelError):
        read_image(tmp_path / "image.tar")
