"""With kernels and tools of the tests' own; real ones are in tests/."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.attachment import ROOTFS_SECTION, read_section, read_trailer
from unikernel.image.contents import check_contents
from unikernel.image.manifest import read_manifest
from unikernel.image.pack import Packer, pack_image
from unikernel.image.spec import ImageSpec, Network
from unikernel.library_os import find_library_os
from unikernel.library_os.description import LibraryOs, Pack, RootfsForm
from unikernel.rootfs.cpio import read_cpio_bytes
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.testing.programs import tiny_program

_UNIKRAFT, _NANOS = find_library_os("unikraft"), find_library_os("nanos")
_SPEC = ImageSpec(
    "hello", target="a:b", library_os="x", network=Network(mode="none"), arguments=("7", "two words"), environment={"B": "2"}
)

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _layer(tmp_path: Path) -> Path:
    layer = Layer("application")
    layer.add_file("/app/hello", tiny_program(tmp_path / "hello"))
    start = {"program": "/app/hello", "arguments": ["/app/hello"], "environment": {"A": "1"}}
    layer.write(tmp_path / "application.cpio", LayerIndex("application", [], facts={"start": start}))
    return tmp_path / "application.cpio"


def _script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tool"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _packs(library_os: LibraryOs, **changes: object) -> LibraryOs:
    assert isinstance(library_os.build, Pack)
    return replace(library_os, build=replace(library_os.build, **changes))  # type: ignore[arg-type]


def _pack(tmp_path: Path, library_os: LibraryOs, inputs: dict[str, Path], spec: ImageSpec = _SPEC, name: str = "image") -> Path:
    scratch = tmp_path / f"scratch-{name}"
    scratch.mkdir()
    output = tmp_path / "out" / name
    output.parent.mkdir(exist_ok=True)
    pack_image(spec, Packer(library_os, "1.0", inputs), layers=[_layer(tmp_path)], output=output, scratch=scratch)
    return output


def _nanos_inputs(tmp_path: Path, tool: str) -> dict[str, Path]:
    (tmp_path / "boot").write_bytes(b"boot")
    return {"kernel": tiny_program(tmp_path / "kernel"), "boot": tmp_path / "boot", "mkfs": _script(tmp_path, tool)}


def test_a_kernel_with_a_root_file_system_beside_it(tmp_path: Path) -> None:
    kernel = tiny_program(tmp_path / "kernel")
    image = _pack(tmp_path, _UNIKRAFT, {"kernel": kernel}, name="image.elf")
    manifest = read_manifest(image)
    check_contents(image, manifest)
    archive = io.BytesIO()
    read_section(image, ROOTFS_SECTION, archive)
    entries = {entry.path: entry for entry, _ in read_cpio_bytes(archive.getvalue())}
    assert "app/hello" in entries and "etc/passwd" in entries
    # It has devices of its own.
    assert not [path for path in entries if path.startswith("dev/")]
    assert (manifest.library_os.name, manifest.library_os.version, manifest.not_reproducible) == ("unikraft", "1.0", False)
    assert [layer.name for layer in manifest.rootfs.layers] == ["base", "application"]
    assert list(manifest.start.arguments) == ["/app/hello", "7", "two words"]
    assert list(manifest.start.environment) == ["A=1", "B=2", "HOME=/", _PATH]
    assert {item.name for item in manifest.inputs} == {"layer application", "layer base", "unikraft kernel"}
    assert json.loads(image.with_suffix(".json").read_text())["target"] == "a:b"
    again = _pack(tmp_path, _UNIKRAFT, {"kernel": kernel}, name="again.elf")
    assert again.read_bytes() == image.read_bytes()


def test_there_are_no_users(tmp_path: Path) -> None:
    image = _pack(tmp_path, _UNIKRAFT, {"kernel": tiny_program(tmp_path / "kernel")}, replace(_SPEC, user="nobody"))
    assert read_manifest(image).start.user == ""


def test_a_disk_that_a_tool_makes(tmp_path: Path) -> None:
    tool = 'for last; do :; done; { echo "$@" | sed "s/ [^ ]*$//"; cat; } > $last; echo noise'
    image = _pack(tmp_path, _NANOS, _nanos_inputs(tmp_path, tool), name="image.img")
    manifest = read_manifest(image)
    check_contents(image, manifest)
    content = image.read_bytes()
    command, _, document = content.decode(errors="replace").partition("\n")
    assert re.fullmatch(r"-b \S+/boot -k \S+/kernel -t \(debug_exit:t\)", command)
    assert document.startswith('("children":(')
    start = (
        '"program":"/app/hello" "arguments":["/app/hello" "7" "two words"] "environment":("A":"1" "B":"2" "HOME":"/" "PATH":"%s") '
    )
    assert start % _PATH.partition("=")[2] + '"cwd":"/")' in document
    # What is to be booted is what was packed: the manifest comes after it.
    packed = (tmp_path / "scratch-image.img" / "packed.img").read_bytes()
    assert content.startswith(packed)
    with image.open("rb") as stream:
        assert read_trailer(stream) is not None
    assert manifest.not_reproducible


def test_a_program_that_boots_by_itself(tmp_path: Path) -> None:
    alone = _packs(_UNIKRAFT, rootfs=RootfsForm.PROGRAM, kernel="")
    image = _pack(tmp_path, alone, {}, name="image.elf")
    manifest = read_manifest(image)
    check_contents(image, manifest)
    assert image.read_bytes()[64:600] == (tmp_path / "hello").read_bytes()[64:600]
    assert (list(manifest.rootfs.layers), manifest.rootfs.packed_sha256) == ([], "")
    assert "program" in {item.name for item in manifest.inputs}


def test_a_tool_gets_a_directory(tmp_path: Path) -> None:
    packs = _packs(_NANOS, rootfs=RootfsForm.DIRECTORY, command=("{mkfs}", "{rootfs}", "{packed}"), standard_input="")
    inputs = _nanos_inputs(tmp_path, 'cd "$1"; find . | sort > "$2"')
    lines = _pack(tmp_path, packs, inputs).read_bytes().split(b"\0")[0].decode().splitlines()
    assert {"./app/hello", "./etc/hosts"} <= set(lines)


@pytest.mark.parametrize(
    ("tool", "error"),
    [
        ("echo partial > $7; echo its reason; exit 2", "Cannot pack the image for nanos: .*tool ended with status 2.\nits reason"),
        ("kill -9 $$", "ended with status -9"),
        ("true", "tool ended well, but made no image"),
    ],
)
def test_a_tool_that_fails_leaves_nothing(tmp_path: Path, tool: str, error: str) -> None:
    with pytest.raises(UnikernelError, match=error):
        _pack(tmp_path, _NANOS, _nanos_inputs(tmp_path, tool), name="image.img")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_in_an_image_is_held_against_its_manifest(tmp_path: Path) -> None:
    image = _pack(tmp_path, _UNIKRAFT, {"kernel": tiny_program(tmp_path / "kernel")}, name="image.elf")
    content = image.read_bytes()
    position = content.index(b"nogroup")
    image.write_bytes(content[:position] + b"wheel!!" + content[position + 7 :])
    with pytest.raises(UnikernelError, match="What is packed in .* is not what its manifest describes"):
        check_contents(image, read_manifest(image))
    disk = _pack(tmp_path, _NANOS, _nanos_inputs(tmp_path, 'for last; do :; done; cat > "$last"'), name="image.img")
    content = disk.read_bytes()
    disk.write_bytes(b"X" + content[1:])
    with pytest.raises(UnikernelError, match="What is packed in .* is not what its manifest describes"):
        check_contents(disk, read_manifest(disk))


def test_what_cannot_be_said_at_boot_is_refused_before_anything_is_packed(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="nanos cannot give its application an empty argument"):
        _pack(tmp_path, _NANOS, _nanos_inputs(tmp_path, "true"), replace(_SPEC, arguments=("",)))
    with pytest.raises(UnikernelError, match="unikraft cannot give its application"):
        _pack(tmp_path, _UNIKRAFT, {}, replace(_SPEC, environment={"A": "]"}), name="b")


def test_memory_holds_the_files_as_often_as_the_library_os_does(tmp_path: Path) -> None:
    image = _pack(tmp_path, _NANOS, _nanos_inputs(tmp_path, 'for last; do :; done; cat > "$last"'), replace(_SPEC, memory=32 << 20))
    assert read_manifest(image).memory_bytes == 32 << 20
    with pytest.raises(UnikernelError, match="memory: 16 MiB are too small for this root file system"):
        _pack(tmp_path, _UNIKRAFT, {"kernel": tiny_program(tmp_path / "k")}, replace(_SPEC, memory=16 << 20), name="b")
