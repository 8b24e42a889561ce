from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Callable

import pytest

from unikernel.errors import UnikernelError
from unikernel.linux.kit_archive import archive_name
from unikernel.linux.kit_key import key_ingredients
from unikernel.linux.kit_store import (
    Trust,
    bundle_beside,
    export_kit,
    import_kit,
    inspect_kit,
    kits_directory,
    kits_in,
    unpack_kit,
    verify_kit,
)
from unikernel.signing.keys import PrivateKey
from unikernel.testing.kits import exportable_kit
from unikernel.testing.mutations import flip, truncate
from unikernel.testing.signing import KINDS, make_key

_OPTIONS = ["CONFIG_SMP=y"]
_MUTATIONS = 60


def _export(directory: Path, key: PrivateKey, *, development: bool = False, name: str = "") -> Path:
    kit, init = exportable_kit(directory / "parts")
    output = directory / "exported"
    output.mkdir()
    return export_kit(kit, init, _OPTIONS, output / name if name else output, key, development_key=development)


def _refused(archive: Path, trust: Trust, reason: str, expected: str | None = None) -> None:
    with pytest.raises(UnikernelError) as caught:
        verify_kit(archive, trust, expected=expected)
    assert archive.name in str(caught.value) and reason in str(caught.value), caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_exported_is_imported_and_unpacked(tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path, kind)
    archive = _export(tmp_path, key)
    cache_key = key_ingredients(_OPTIONS).key
    assert archive.name == f"{cache_key}.kit"
    directory, trust = tmp_path / "a/kits", Trust([key.public])
    path, stored = import_kit(archive, directory, trust, expected=cache_key)
    assert (path, stored.key, stored.signer) == (directory / archive.name, cache_key, key.public)
    assert path.read_bytes() == archive.read_bytes() and stored.size == archive.stat().st_size
    assert sorted(item.name for item in directory.iterdir()) == [archive.name, f"{archive.name}.sigstore.json"]
    assert kits_in(directory) == [path]
    kit, init = tmp_path / "kit", tmp_path / "init"
    unpack_kit(path, trust, cache_key, kit, init)
    original = tmp_path / "parts"
    for file in (original / "kit").iterdir():
        assert (kit / file.name).read_bytes() == file.read_bytes()
    assert init.read_bytes() == (original / "init").read_bytes() and os.access(init, os.X_OK)


def test_exporting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    one, other = (_export(tmp_path / name, key) for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()
    assert bundle_beside(one).read_bytes() == bundle_beside(other).read_bytes()


def test_a_kit_that_is_imported_again_takes_the_place_of_the_other(tmp_path: Path) -> None:
    key, other = make_key(tmp_path), make_key(tmp_path, name="other.pem")
    directory = tmp_path / "kits"
    import_kit(_export(tmp_path / "a", key), directory, Trust([key.public]))
    path, _ = import_kit(_export(tmp_path / "b", other, development=True), directory, Trust([other.public], True))
    assert verify_kit(path, Trust([other.public], True)).signer == other.public
    assert len(list(directory.iterdir())) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mutate", [flip, truncate])
def test_no_mutation_of_a_kit_or_its_bundle_is_accepted(
    tmp_path: Path, kind: str, mutate: Callable[[bytes, random.Random], bytes]
) -> None:
    key = make_key(tmp_path, kind)
    archive = _export(tmp_path, key)
    chance = random.Random(f"{kind} {mutate.__name__}")
    for file in (archive, bundle_beside(archive)):
        content = file.read_bytes()
        for _ in range(_MUTATIONS):
            file.write_bytes(mutate(content, chance))
            with pytest.raises(UnikernelError) as caught:
                import_kit(archive, tmp_path / "kits", Trust([key.public]))
            assert archive.name in str(caught.value) and "\n" not in str(caught.value)
            assert not list((tmp_path / "kits").iterdir())
        file.write_bytes(content)
    verify_kit(archive, Trust([key.public]))


def test_a_kit_of_another_signer(tmp_path: Path) -> None:
    key, other = make_key(tmp_path), make_key(tmp_path, name="other.pem")
    archive = _export(tmp_path / "a", key)
    _refused(archive, Trust([other.public]), "is signed by a key that is not among those that are trusted here")
    _refused(archive, Trust([]), "is signed by a key that is not among those that are trusted here")
    assert verify_kit(archive, Trust([other.public, key.public])).signer == key.public


def test_a_kit_without_its_bundle_or_with_that_of_another_one(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    archive, other = _export(tmp_path / "a", key), _export(tmp_path / "b", key, development=True)
    shutil.copy(bundle_beside(other), bundle_beside(archive))
    _refused(archive, Trust([key.public], True), "is the signature of another file")
    bundle_beside(archive).unlink()
    _refused(archive, Trust([key.public]), "cannot be read: No such file")


def test_a_development_key_has_to_be_allowed(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    archive = _export(tmp_path, key, development=True)
    _refused(archive, Trust([key.public]), "is signed by a development key, and none is accepted here")
    assert verify_kit(archive, Trust([key.public], True)).contents.document.development_key


def test_a_kit_by_the_name_of_another_one(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    archive = _export(tmp_path, key)
    own, wrong = key_ingredients(_OPTIONS).key, key_ingredients([]).key
    renamed = archive.with_name(archive_name(wrong))
    for source, target in ((archive, renamed), (bundle_beside(archive), bundle_beside(renamed))):
        shutil.copy(source, target)
    _refused(renamed, Trust([key.public]), f"has the cache key {own}, which its name is not")
    with pytest.raises(UnikernelError, match="which its name is not"):
        inspect_kit(renamed)
    _refused(archive, Trust([key.public]), f"has the cache key {own}, but {wrong} is expected", expected=wrong)
    with pytest.raises(UnikernelError, match="which its name is not"):
        _export(tmp_path / "other", key, name=renamed.name)
    # A name that is not a cache key promises nothing.
    assert import_kit(_export(tmp_path / "free", key, name="linux.kit"), tmp_path / "kits", Trust([key.public]))[1].key == own


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "a.kit"
    bundle_beside(archive).write_bytes(b"{}\n")
    if kind == "directory":
        archive.mkdir()
    elif kind == "pipe":
        os.mkfifo(archive)
    _refused(archive, Trust([]), "cannot be read: No such file" if kind == "missing" else "is not a regular file")


def test_where_imported_kits_are() -> None:
    assert kits_directory({"HOME": "/home/ada"}) == Path("/home/ada/.local/share/unikernel/kits")
    assert kits_directory({"HOME": "/home/ada", "XDG_DATA_HOME": "/data"}) == Path("/data/unikernel/kits")
    assert kits_directory({"HOME": "/home/ada", "XDG_DATA_HOME": "data"}) == Path("/home/ada/.local/share/unikernel/kits")
    with pytest.raises(UnikernelError, match="no home directory to keep kits in"):
        kits_directory({})
    assert kits_in(Path("/nowhere")) == []
