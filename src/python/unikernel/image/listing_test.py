from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from unikernel import cli
from unikernel.errors import UnikernelError
from unikernel.image.files import image_rootfs
from unikernel.image.link import link_image
from unikernel.image.listing import Change, changed_fields, changed_files, copy_file, extract, list_files
from unikernel.image.pack import Packer, pack_image
from unikernel.image.spec import ImageSpec
from unikernel.library_os import find_library_os
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.merge import MergedEntry, MergedRootfs
from unikernel.testing.images import small_kit
from unikernel.testing.programs import tiny_program

_START = {"program": "/app/hello", "arguments": ["/app/hello"], "environment": {}}


def _layer(tmp_path: Path, text: bytes = b"text") -> Path:
    layer = Layer("application")
    layer.add_file("/app/hello", tiny_program(tmp_path / "hello"), 0o4755)
    data = tmp_path / f"data-{text.decode()}"
    data.write_bytes(text)
    layer.add_part("/app/data", data, 0, len(text), 0o640, (5, 6))
    layer.add_symlink("/app/link", "data")
    layer.add_symlink("/srv", "app")
    layer.write(tmp_path / "application.cpio", LayerIndex("application", [], facts={"start": _START}))
    return tmp_path / "application.cpio"


def _image(tmp_path: Path, name: str = "image.elf", text: bytes = b"text", **settings: object) -> Path:
    scratch = tmp_path / f"scratch-{name}"
    scratch.mkdir()
    (tmp_path / "init").write_bytes(b"PID 1")
    kit = small_kit(scratch)
    spec = ImageSpec(name="image", **settings)  # type: ignore[arg-type]
    link_image(
        spec,
        kit=kit,
        init=tmp_path / "init",
        layers=[_layer(tmp_path, text)],
        output=tmp_path / name,
        scratch=scratch,
        assembler="as",
        linker="ld",
    )
    return tmp_path / name


def _packed(tmp_path: Path, library_os: str, **inputs: Path) -> Path:
    scratch = tmp_path / "scratch-packed"
    scratch.mkdir()
    output = tmp_path / "packed.img"
    spec = ImageSpec(name="image", library_os=library_os)
    pack_image(spec, Packer(find_library_os(library_os), "1", inputs), layers=[_layer(tmp_path)], output=output, scratch=scratch)
    return output


def test_files_are_listed_with_mode_owner_size_and_layer(tmp_path: Path) -> None:
    with image_rootfs(_image(tmp_path)) as rootfs:
        listed = {file.path: file for file in list_files(rootfs)}
        assert listed["/app/data"].to_text() == "-rw-r-----       5:6          4 /app/data"
        assert listed["/app/link"].to_text().endswith(" /app/link -> data")
        assert listed["/app/hello"].to_text().startswith("-rwsr-xr-x ")
        assert listed["/app/data"].layer == "application" and listed["/.unikernel/init"].layer == "configuration"
        # By the links on the way, and to one file.
        assert [file.path for file in list_files(rootfs, "srv/")] == ["/app", "/app/data", "/app/hello", "/app/link"]
        assert [file.path for file in list_files(rootfs, "/srv/link")] == ["/app/data"]


def test_what_is_not_there_is_said_with_what_is_near(tmp_path: Path) -> None:
    with image_rootfs(_image(tmp_path)) as rootfs:
        with pytest.raises(UnikernelError, match="There is no /data in the image. Did you mean /app/data?"):
            list_files(rootfs, "/data")
        with pytest.raises(UnikernelError, match="Did you mean /app/hello?"):
            list_files(rootfs, "/app/helo")
        with pytest.raises(UnikernelError, match="^There is no /nowhere/at/all in the image.$"):
            list_files(rootfs, "/nowhere/at/all")


def test_a_file_and_a_tree_are_extracted(tmp_path: Path) -> None:
    with image_rootfs(_image(tmp_path)) as rootfs:
        output = io.BytesIO()
        copy_file(rootfs, "/app/link", output)
        assert output.getvalue() == b"text"
        with pytest.raises(UnikernelError, match="/app is a directory: name one to write it to"):
            copy_file(rootfs, "/app", output)
        assert extract(rootfs, "/app/data", tmp_path / "data") == 1
        assert (tmp_path / "data").read_bytes() == b"text"
        assert extract(rootfs, "/srv", tmp_path / "tree") == 3
        assert (tmp_path / "tree/link").readlink() == Path("data")
        assert (tmp_path / "tree/hello").stat().st_mode & 0o7777 == 0o755
        assert extract(rootfs, "/", tmp_path / "all") == len(rootfs.entries)
        with pytest.raises(UnikernelError, match="is there already"):
            extract(rootfs, "/app", tmp_path / "tree")


def test_an_archive_beside_a_kernel_is_read_too(tmp_path: Path) -> None:
    image = _packed(tmp_path, "unikraft", kernel=tiny_program(tmp_path / "kernel"))
    with image_rootfs(image) as rootfs:
        assert [file.path for file in list_files(rootfs, "/app/data")] == ["/app/data"]


def test_what_only_its_library_os_reads_is_said_to_be_so(tmp_path: Path) -> None:
    tool = tmp_path / "mkfs"
    tool.write_text('#!/bin/sh\nfor last; do :; done\ncat > "$last"\n')
    tool.chmod(0o755)
    kernel = tiny_program(tmp_path / "kernel")
    image = _packed(tmp_path, "nanos", kernel=kernel, boot=kernel, mkfs=tool)
    with pytest.raises(UnikernelError, match="has its files as nanos packs them, which only nanos can read"):
        with image_rootfs(image):
            pass


def test_a_damaged_image_is_said_to_be_so(tmp_path: Path) -> None:
    image = _image(tmp_path)
    content = bytearray(image.read_bytes())
    position = content.index(b"070701", content.index(b"app/data") - 200)
    content[position : position + 6] = b"broken"
    image.write_bytes(bytes(content))
    with pytest.raises(UnikernelError, match="The root file system of .* is damaged"):
        with image_rootfs(image):
            pass


def test_differences_of_files_and_manifests(tmp_path: Path) -> None:
    one, other = _image(tmp_path, "one.elf"), _image(tmp_path, "other.elf", b"TEXT", memory=64 << 20)
    with image_rootfs(one) as before, image_rootfs(other) as after:
        (change,) = (change for change in changed_files(before, after) if change.name == "/app/data")
        assert change.before.startswith("-rw-r----- 5:6 4 bytes, SHA-256 ") and change.before != change.after
        assert list(changed_files(before, before)) == []
        del after.entries["/app/link"]
        assert Change("/app/link", "link to data", "") in list(changed_files(before, after))
    changed = list(
        changed_fields({"a": 1, "l": [{"name": "x", "v": 1}]}, {"a": 2, "l": [{"name": "x", "v": 1}, {"name": "y", "v": 3}]})
    )
    assert changed == [Change("a", "1", "2"), Change("l.y.v", "", "3")]
    assert Change("sha256", "0" * 64, "").to_text() == f"- sha256  {'0' * 12}"


def test_links_that_look_the_same_are_told_apart_by_digest() -> None:
    """People see the start of a long target only."""

    def link(target: str) -> MergedRootfs:
        content = target.encode()
        return MergedRootfs({"/link": MergedEntry(stat.S_IFLNK | 0o777, len(content), 0, io.BytesIO(content), "files", target)})

    one, other = link("/" + 200 * "a"), link("/" + 200 * "a" + "b")
    (change,) = changed_files(one, other)
    assert change.before.startswith("link to /aaa") and ", SHA-256 " in change.before and change.before != change.after
    assert list(changed_files(one, one)) == []


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = str(_image(tmp_path, "one.elf")), str(_image(tmp_path, "other.elf", b"TEXT"))
    assert cli.main(["ls", one, "/app/data", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["path"], listed["mode"], listed["owner"], listed["size"]) == ("/app/data", "100640", "5:6", 4)
    assert cli.main(["ls", one, "/none"]) == 1
    assert "unikernel: There is no /none in the image." in capsys.readouterr().err
    assert cli.main(["extract", one, "/app", "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/data").read_bytes() == b"text"
    assert cli.main(["diff", one, one]) == 0
    assert cli.main(["diff", one, other]) == 1
    assert "~ /app/data  -rw-r-----" in capsys.readouterr().out
    assert cli.main(["diff", one, other, "--json"]) == 1
    assert {change["name"] for change in json.loads(capsys.readouterr().out)["files"]} >= {"/app/data"}
