"""What `pants package` does to `dist/`: images are left alone there as long as they are what they should be, and all else is as ever."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pants_project import PantsProject, files_of

# Of a library OS without a kernel to compile.
_BUILD = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
unikernel_image(name="unikernel", app=":program", network="none", library_os="picolibc", formats=["elf", "oci"])
unikernel_image(name="odd", app=":program", network="none", library_os="picolibc", output_path="app/unikernel.!o d,d.elf")
archive(name="archive", packages=[":unikernel"], format="tar")
"""
_IMAGE, _LAYOUT = "app/unikernel.elf", "app/unikernel.oci"
_PROGRAM, _ARCHIVE = "app/program", "app/archive.tar"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    with PantsProject(tmp_path_factory.mktemp("dist") / "repository") as project:
        project.write("app/BUILD", _BUILD)
        change(project)
        project.succeed("package", "::")
        yield project


def change(project: PantsProject) -> str:
    """To something that is in the image, and that nobody has packaged yet."""
    mark = uuid.uuid4().hex
    project.write("app/main.c", f'#include <stdio.h>\nint main(void) {{ return puts("{mark}") < 0; }}\n')
    return mark


def written(project: PantsProject) -> Mapping[str, tuple[int, int]]:
    """Inode and time of what is an image's, by the path below dist/: others for what is written anew."""
    facts = {path: (project.root / "dist" / path).stat() for path in project.dist() if path.startswith("app/unikernel.")}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in facts.items()}


@pytest.mark.parametrize("daemon", ["--pantsd", "--no-pantsd"])
def test_what_is_there_is_left_alone(project: PantsProject, daemon: str) -> None:
    before, contents = written(project), project.digests("")
    assert set(files_of("app/unikernel")) <= set(before)
    assert set(files_of("app/unikernel.!o d,d")) <= set(before)
    project.succeed(daemon, "package", "::")
    assert written(project) == before
    assert project.digests("") == contents


@pytest.mark.parametrize("damage", ["of files", "of directories", "of all", "of what is remembered"])
def test_what_is_not_as_it_was_written_is_written_again(project: PantsProject, damage: str) -> None:
    contents = project.digests("")
    dist = project.root / "dist"
    if damage == "of files":
        blob = next(path for path in contents if path.startswith(f"{_LAYOUT}/blobs/"))
        for path in (_IMAGE, f"{_IMAGE}.sigstore.json", _PROGRAM, blob):
            change_secretly(dist / path)
    elif damage == "of directories":
        (dist / _LAYOUT / "blobs" / "other").write_bytes(b"not of it")
        (dist / _IMAGE).unlink()
        (dist / _IMAGE).mkdir()
        (dist / _IMAGE / "inside").write_bytes(b"")
    elif damage == "of all":
        shutil.rmtree(dist)
    else:
        shutil.rmtree(project.root / ".pants.d/unikernel/dist")
    project.succeed("package", "::")
    assert project.digests("") == contents


def change_secretly(file: Path) -> None:
    """Its size and its times stay."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(b"not it")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_changed_is_put_in_place_whole(project: PantsProject) -> None:
    before = written(project)
    image = project.root / "dist" / _IMAGE
    old = image.read_bytes()
    with image.open("rb") as opened:
        mark = change(project)
        project.succeed("package", "::")
        # Who has it open, such as a machine that boots, keeps what it opened.
        assert opened.read() == old
    assert mark.encode() in image.read_bytes()
    after = written(project)
    assert after[_IMAGE] != before[_IMAGE]
    # The program is listed without its digest there.
    assert after["app/unikernel.spdx.json"] == before["app/unikernel.spdx.json"]
    project.succeed("unikernel-verify", "::")
    assert list(project.root.rglob(".staging-*")) == []


@pytest.mark.parametrize("specs", [["app:program", "app:archive"], ["::"]], ids=["alone", "with images"])
def test_other_targets_are_written_as_ever(project: PantsProject, specs: Sequence[str]) -> None:
    before, contents = written(project), project.digests("")
    for path in (_PROGRAM, _ARCHIVE):
        (project.root / "dist" / path).unlink()
    project.succeed("package", *specs)
    assert project.digests("") == contents
    assert os.access(project.root / "dist" / _PROGRAM, os.X_OK)
    assert written(project) == before


def test_a_failed_run_leaves_what_is_there(project: PantsProject) -> None:
    before = written(project)
    good = (project.root / "app/main.c").read_text()
    project.write("app/main.c", "int main(void) { return nothing_of_this_name; }\n")
    try:
        project.fail("package", "::", expected=["nothing_of_this_name"])
    finally:
        project.write("app/main.c", good)
    assert written(project) == before
