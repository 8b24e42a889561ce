from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.signing.development_key import development_key_path, load_development_key, public_part_path
from unikernel.signing.keys import Message, PublicKey


def test_made_once_and_for_its_user_only(tmp_path: Path) -> None:
    path = tmp_path / "config/unikernel/development-key.pem"
    key = load_development_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    content = path.read_bytes()
    assert load_development_key(path).public == key.public
    assert path.read_bytes() == content
    assert sorted(file.name for file in path.parent.iterdir()) == ["development-key.pem", "development-key.pub"]


def test_its_public_part_is_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "development-key.pem"
    key = load_development_key(path)
    public_part_path(path).write_text("another")
    load_development_key(path)
    message = Message.of(b"image")
    assert PublicKey.load(public_part_path(path)).verifies(key.sign(message), message)


def test_processes_that_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    path = tmp_path / "config/development-key.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_development_key(path).public.fingerprint, range(32)))
    assert len(set(keys)) == 1
    assert len(list(path.parent.iterdir())) == 2


def test_where_it_is() -> None:
    assert development_key_path({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}) == Path("/c/unikernel/development-key.pem")
    # The specification: a relative path is to be ignored.
    for environment in ({"HOME": "/h"}, {"HOME": "/h", "XDG_CONFIG_HOME": "c"}, {"HOME": "/h", "XDG_CONFIG_HOME": ""}):
        assert development_key_path(environment) == Path("/h/.config/unikernel/development-key.pem")


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnikernelError, match="No development key can be kept at"):
        load_development_key(tmp_path / "file/development-key.pem")
