import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pants.engine.fs import Digest

from pants_unikernel.dist_files import DistFile, DistFiles, DistPackage, DistPath

_IMAGE, _LAYOUT = "app/image.elf", "app/image.oci"
_TARGET = "app:image"


def dist_files(tmp_path: Path) -> DistFiles:
    return DistFiles(tmp_path / "dist", tmp_path / "state")


def described(files: Mapping[str, bytes]) -> list[DistFile]:
    return [DistFile(path, hashlib.sha256(content).hexdigest(), path.endswith(".elf")) for path, content in files.items()]


def package(files: Mapping[str, bytes], basis: str = "") -> DistPackage:
    text = repr(files).encode()
    return DistPackage(_TARGET, Digest(hashlib.sha256(text).hexdigest(), len(text)), basis=basis)


def put(dist: DistFiles, artifact: str, files: Mapping[str, bytes]) -> None:
    """A package with one artifact."""
    with dist.staged({(_TARGET, artifact): described(files)}) as directory:
        for path, content in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
    dist.complete(package(files), [artifact])
    dist.save()


def is_written(tmp_path: Path, artifact: str, files: Mapping[str, bytes]) -> bool:
    """By the digest of the package, and by its files: they agree."""
    dist = dist_files(tmp_path)
    answers = {dist.is_written(package(files), [artifact]), dist.has_written(_TARGET, artifact, described(files))}
    (answer,) = answers
    return answer


def staged(tmp_path: Path) -> list[Path]:
    """What is left of the writing."""
    return [*tmp_path.glob("state/staging/.staging-*"), *tmp_path.glob("dist/.staging-*")]


def content(tmp_path: Path, artifact: str) -> dict[str, bytes]:
    root = tmp_path / "dist"
    files = [file for file in (root / artifact).rglob("*") if file.is_file()] or [root / artifact]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("artifact", "files"),
    [
        (_IMAGE, {_IMAGE: b"an image"}),
        (_LAYOUT, {f"{_LAYOUT}/index.json": b"{}", f"{_LAYOUT}/blobs/sha256/01": b"a blob"}),
    ],
    ids=["file", "directory"],
)
class TestAnArtifact:
    def test_is_in_place_and_remembered(self, tmp_path: Path, artifact: str, files: Mapping[str, bytes]) -> None:
        assert not is_written(tmp_path, artifact, files)
        put(dist_files(tmp_path), artifact, files)
        assert content(tmp_path, artifact) == files
        assert is_written(tmp_path, artifact, files)
        assert staged(tmp_path) == []

    def test_of_another_content_is_not_what_was_written(self, tmp_path: Path, artifact: str, files: Mapping[str, bytes]) -> None:
        put(dist_files(tmp_path), artifact, files)
        others = {path: content + b"!" for path, content in files.items()}
        assert not is_written(tmp_path, artifact, others)

    def test_takes_the_place_of_an_older_one(self, tmp_path: Path, artifact: str, files: Mapping[str, bytes]) -> None:
        older = {path: b"older" for path in files} if artifact == _IMAGE else {f"{artifact}/older": b"older"}
        put(dist_files(tmp_path), artifact, older)
        put(dist_files(tmp_path), artifact, files)
        assert content(tmp_path, artifact) == files
        assert is_written(tmp_path, artifact, files)

    def test_takes_the_place_of_another_kind(self, tmp_path: Path, artifact: str, files: Mapping[str, bytes]) -> None:
        put(dist_files(tmp_path), artifact, {f"{artifact}/inside": b"x"} if artifact == _IMAGE else {artifact: b"x"})
        put(dist_files(tmp_path), artifact, files)
        assert content(tmp_path, artifact) == files

    @pytest.mark.parametrize("change", ["written to", "replaced", "touched", "removed", "its mode", "in place, with its old times"])
    def test_that_somebody_changed_is_not_what_was_written(
        self, tmp_path: Path, artifact: str, files: Mapping[str, bytes], change: str
    ) -> None:
        put(dist_files(tmp_path), artifact, files)
        file = tmp_path / "dist" / sorted(files)[0]
        before = file.stat()
        if change == "written to":
            file.write_bytes(b"shorter")
        elif change == "replaced":
            copy = file.with_name("copy")
            copy.write_bytes(file.read_bytes())
            os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
            copy.replace(file)
        elif change == "touched":
            file.touch()
        elif change == "removed":
            file.unlink()
        elif change == "its mode":
            file.chmod(0o700)
        else:
            with file.open("r+b") as opened:
                opened.write(b"?")
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert file.stat().st_size == before.st_size
        assert not is_written(tmp_path, artifact, files)

    def test_is_as_it_was_when_a_write_fails(self, tmp_path: Path, artifact: str, files: Mapping[str, bytes]) -> None:
        put(dist_files(tmp_path), artifact, files)
        dist = dist_files(tmp_path)
        with pytest.raises(OSError, match="No space"):
            with dist.staged({(_TARGET, artifact): described({artifact: b"other"})}) as directory:
                (directory / "half").write_bytes(b"of it")
                raise OSError("No space left on device")
        dist.save()
        assert content(tmp_path, artifact) == files
        assert is_written(tmp_path, artifact, files)
        assert staged(tmp_path) == []


def test_a_file_too_many_in_a_directory_is_noticed(tmp_path: Path) -> None:
    files = {f"{_LAYOUT}/index.json": b"{}"}
    put(dist_files(tmp_path), _LAYOUT, files)
    (tmp_path / "dist" / _LAYOUT / "other").write_bytes(b"")
    assert not is_written(tmp_path, _LAYOUT, files)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 0, "packages": {}}', b'{"version": 2, "files": {}}', b"\xff"])
def test_without_a_readable_index_all_is_written_again(tmp_path: Path, damage: bytes) -> None:
    files = {_IMAGE: b"an image"}
    put(dist_files(tmp_path), _IMAGE, files)
    (tmp_path / "state/index.json").write_bytes(damage)
    assert not is_written(tmp_path, _IMAGE, files)
    put(dist_files(tmp_path), _IMAGE, files)
    assert is_written(tmp_path, _IMAGE, files)


_SIGNATURE = "app/image.sig"
_SIGNED = {_IMAGE: b"an image", _SIGNATURE: b"a signature"}


def put_signed(tmp_path: Path, basis: str = "") -> None:
    dist = dist_files(tmp_path)
    with dist.staged({(_TARGET, path): described({path: content}) for path, content in _SIGNED.items()}) as directory:
        (directory / "app").mkdir()
        for path, content in _SIGNED.items():
            (directory / path).write_bytes(content)
    dist.complete(package(_SIGNED, basis), _SIGNED)
    dist.save()


def test_of_a_package_only_what_changed_has_to_be_written(tmp_path: Path) -> None:
    """As with another commit: the signature is another, and the image is not."""
    put_signed(tmp_path)
    dist = dist_files(tmp_path)
    assert dist.is_written(package(_SIGNED), [_IMAGE, _SIGNATURE])
    newer = {**_SIGNED, _SIGNATURE: b"another"}
    assert not dist.is_written(package(newer), [_IMAGE, _SIGNATURE])
    assert dist.has_written(_TARGET, _IMAGE, described({_IMAGE: b"an image"}))
    assert not dist.has_written(_TARGET, _SIGNATURE, described({_SIGNATURE: b"another"}))
    assert not dist.has_written("app:other", _IMAGE, described({_IMAGE: b"an image"}))
    # What it does not have any more is not looked at.
    dist.complete(package({_IMAGE: b"an image"}), [_IMAGE])
    assert dist.is_written(package({_IMAGE: b"an image"}), [_IMAGE])
    assert not dist.is_written(package({_IMAGE: b"an image"}), [_IMAGE, _SIGNATURE])


def test_what_has_the_same_basis_is_read(tmp_path: Path) -> None:
    put_signed(tmp_path, basis="of this")
    dist = dist_files(tmp_path)
    assert dist.read(_TARGET, "of this", [_SIGNATURE]) == {_SIGNATURE: b"a signature"}
    assert dist.read(_TARGET, "of that", [_SIGNATURE]) is None
    assert dist.read("app:other", "of this", [_SIGNATURE]) is None
    assert dist.read(_TARGET, "of this", [_SIGNATURE, "app/image.other"]) is None
    assert not dist.is_written(package(_SIGNED, "of that"), [_IMAGE, _SIGNATURE])


@pytest.mark.parametrize("change", ["written to", "removed", "a directory"])
def test_what_somebody_changed_is_not_read(tmp_path: Path, change: str) -> None:
    put_signed(tmp_path, basis="of this")
    file = tmp_path / "dist" / _SIGNATURE
    file.unlink()
    if change == "written to":
        file.write_bytes(b"a signature")
    elif change == "a directory":
        file.mkdir()
    assert dist_files(tmp_path).read(_TARGET, "of this", [_SIGNATURE]) is None


def test_what_is_not_complete_is_not_read(tmp_path: Path) -> None:
    put_signed(tmp_path, basis="of this")
    dist = dist_files(tmp_path)
    with dist.staged({(_TARGET, _IMAGE): described({_IMAGE: b"an image"})}) as directory:
        (directory / "app").mkdir()
        (directory / _IMAGE).write_bytes(b"an image")
    dist.save()
    assert dist_files(tmp_path).read(_TARGET, "of this", [_SIGNATURE]) is None


def test_a_package_that_is_written_in_part_is_not_written(tmp_path: Path) -> None:
    files = {_IMAGE: b"an image"}
    put(dist_files(tmp_path), _IMAGE, files)
    dist = dist_files(tmp_path)
    with dist.staged({(_TARGET, _IMAGE): described(files)}) as directory:
        (directory / "app").mkdir()
        (directory / _IMAGE).write_bytes(b"an image")
    dist.save()
    dist = dist_files(tmp_path)
    assert not dist.is_written(package(files), [_IMAGE])
    assert dist.has_written(_TARGET, _IMAGE, described(files))


def test_what_is_gone_is_forgotten(tmp_path: Path) -> None:
    put(dist_files(tmp_path), _IMAGE, {_IMAGE: b"an image"})
    (tmp_path / "dist" / _IMAGE).unlink()
    put(dist_files(tmp_path), "other", {"other": b""})
    assert _IMAGE not in (tmp_path / "state/index.json").read_text()


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    dist_files(tmp_path).save()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    killed = """
import os, sys
from pathlib import Path
from pants_unikernel.dist_files import DistFiles

with DistFiles(Path(sys.argv[1], "dist"), Path(sys.argv[1], "state")).staged({}) as directory:
    (directory / "half").write_bytes(b"of it")
    os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path)], env=environment).returncode == -9
    (left,) = staged(tmp_path)
    with dist_files(tmp_path).staged({}) as directory:
        assert staged(tmp_path) == [directory]
        with dist_files(tmp_path).staged({}) as another:
            assert set(staged(tmp_path)) == {directory, another}
    assert staged(tmp_path) == [] and left not in (directory, another)


def test_a_path_is_text_like_any_other() -> None:
    path = DistPath(_IMAGE, package({}))
    assert (path, hash(path), f"{path}", path.package) == (_IMAGE, hash(_IMAGE), _IMAGE, package({}))
