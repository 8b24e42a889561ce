from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.signing.worktree import public_uri, source_of_worktree

_GIT = shutil.which("git") or "git"
_ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    **{f"GIT_{who}_{what}": "somebody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def _git(directory: Path, *arguments: str) -> str:
    return subprocess.run([_GIT, *arguments], cwd=directory, env=_ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    directory = tmp_path / "repository"
    directory.mkdir()
    _git(directory, "init", "--quiet")
    (directory / "file").write_text("1\n")
    _git(directory, "add", "file")
    _git(directory, "commit", "--quiet", "-m", "first")
    return directory


def test_commit_and_changes(worktree: Path) -> None:
    commit = _git(worktree, "rev-parse", "HEAD").strip()
    source = source_of_worktree(worktree, _GIT, _ENVIRONMENT)
    assert (source.commit, source.dirty, source.uri) == (commit, False, "")
    (worktree / "file").write_text("2\n")
    assert source_of_worktree(worktree, _GIT, _ENVIRONMENT).dirty
    _git(worktree, "add", "file")
    assert source_of_worktree(worktree, _GIT, _ENVIRONMENT).dirty
    _git(worktree, "commit", "--quiet", "-m", "second")
    source = source_of_worktree(worktree, _GIT, _ENVIRONMENT)
    assert source.commit != commit and not source.dirty


def test_new_files_count_unless_they_are_ignored(worktree: Path) -> None:
    (worktree / "dist").mkdir()
    (worktree / "dist/image.elf").write_text("")
    assert source_of_worktree(worktree, _GIT, _ENVIRONMENT).dirty
    assert not source_of_worktree(worktree, _GIT, _ENVIRONMENT, ["dist"]).dirty
    (worktree / "other").write_text("")
    assert source_of_worktree(worktree, _GIT, _ENVIRONMENT, ["dist"]).dirty


def test_only_what_is_below_the_directory_counts(worktree: Path) -> None:
    (worktree / "below").mkdir()
    (worktree / "other").write_text("")
    assert not source_of_worktree(worktree / "below", _GIT, _ENVIRONMENT).dirty


def test_the_remote_is_named(worktree: Path) -> None:
    _git(worktree, "remote", "add", "origin", "https://me:secret@example.com/team/repository.git")
    assert source_of_worktree(worktree, _GIT, _ENVIRONMENT).uri == "https://example.com/team/repository.git"


@pytest.mark.parametrize(
    ("remote", "uri"),
    [
        ("", ""),
        ("/srv/git/repository", ""),
        ("../repository", ""),
        ("C:/repository", ""),
        ("file:///srv/git/repository", ""),
        ("https://example.com/r.git", "https://example.com/r.git"),
        ("https://token@example.com:8443/r.git?private_token=secret#secret", "https://example.com:8443/r.git"),
        ("https://example.com:port/r.git", ""),
        ("ssh://git:secret@example.com/r.git", "ssh://git@example.com/r.git"),
        ("git@example.com:team/r.git", "ssh://git@example.com/team/r.git"),
        ("https://[::1]/r.git", "https://[::1]/r.git"),
    ],
)
def test_nothing_secret_is_in_a_uri(remote: str, uri: str) -> None:
    assert public_uri(remote) == uri


def test_what_git_cannot_tell(tmp_path: Path, worktree: Path) -> None:
    with pytest.raises(UnikernelError, match="not a git repository"):
        source_of_worktree(tmp_path, _GIT, _ENVIRONMENT)
    with pytest.raises(UnikernelError, match="cannot be run: No such file"):
        source_of_worktree(worktree, str(tmp_path / "git"), _ENVIRONMENT)
    empty = tmp_path / "empty"
    empty.mkdir()
    _git(empty, "init", "--quiet")
    with pytest.raises(UnikernelError, match="git rev-parse: fatal"):
        source_of_worktree(empty, _GIT, _ENVIRONMENT)
