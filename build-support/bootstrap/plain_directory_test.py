from __future__ import annotations

from pathlib import Path

import pytest

import plain_directory as module
from errors import BootstrapError
from plain_directory import plain_directory


@pytest.fixture(autouse=True)
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where this user's own directory is made, in place of /var/tmp."""
    monkeypatch.setattr(module, "_BELOW", tmp_path)
    return tmp_path


def test_a_path_that_pants_can_name_is_kept(tmp_path: Path) -> None:
    assert plain_directory(tmp_path / "plain-1.0") == tmp_path / "plain-1.0"


def test_each_other_path_has_a_directory_of_its_own(tmp_path: Path) -> None:
    first, second = (plain_directory(tmp_path / name) for name in ("my projet é", "my project"))
    assert first != second and first == plain_directory(tmp_path / "my projet é")
    for directory in (first, second):
        assert directory.is_dir() and str(directory).isascii() and " " not in str(directory)
        assert directory.parent.stat().st_mode & 0o077 == 0


def test_what_others_can_write_is_not_used(tmp_path: Path) -> None:
    plain_directory(tmp_path / "my project").parent.chmod(0o777)
    with pytest.raises(BootstrapError, match="can be written by others. Move it away"):
        plain_directory(tmp_path / "my project")
