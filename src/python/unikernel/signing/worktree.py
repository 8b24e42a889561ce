"""What git says of the work tree that something is built in."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from unikernel.errors import UnikernelError
from unikernel.signing.provenance import Source

# "git@example.com:team/repository.git": git-clone(1), "GIT URLS".
_SCP_LIKE = re.compile(r"(?P<host>[^/:]+@[^/:]+|[^/:]{2,}):(?!//)(?P<path>.+)")
_REMOTE_SCHEMES = ("git", "http", "https", "ssh")


def source_of_worktree(directory: Path, git: str, environment: Mapping[str, str], ignored: Sequence[str] = ()) -> Source:
    """HEAD's commit, and whether anything below `directory` differs from it: files that git does not know (and is not told to ignore)
    included, but for the paths in `ignored`, which are relative to it.

    Raises UnikernelError with what git says when it cannot tell.
    """

    def ask(*arguments: str) -> str:
        # Optional locks: git would write to a work tree that somebody else may be working in.
        command = [git, "-C", os.fspath(directory), "--no-optional-locks", *arguments]
        try:
            result = subprocess.run(
                command,
                # So Python starts it without a copy of this process's page tables, which may be large (posix_spawn, vfork): no descriptor of
                # this process is for others to have.
                close_fds=False,
                env={**environment, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="surrogateescape",
            )
        except OSError as error:
            raise UnikernelError(f"{git} cannot be run: {error.strerror}.") from error
        if result.returncode != 0:
            raise UnikernelError(f"git {arguments[0]}: {_first_line(result.stderr) or f'status {result.returncode}'}.")
        return result.stdout

    commit = ask("rev-parse", "--verify", "HEAD^{commit}").strip()
    excluded = [f":(exclude){path}" for path in ignored]
    dirty = bool(ask("status", "--porcelain", "-z", "--untracked-files=normal", "--", ".", *excluded))
    try:
        remote = ask("config", "--get", "remote.origin.url").strip()
    except UnikernelError:
        remote = ""
    return Source(commit, dirty, public_uri(remote))


def _first_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line]
    return lines[0].rstrip(".") if lines else ""


def public_uri(remote: str) -> str:
    """A remote repository's address without what is nobody else's business: passwords, tokens, and paths of this machine (which give "")."""
    if "://" not in remote:
        match = _SCP_LIKE.fullmatch(remote)
        return f"ssh://{match['host']}/{match['path'].lstrip('/')}" if match else ""
    try:
        parts = urlsplit(remote)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if parts.scheme not in _REMOTE_SCHEMES or not host:
        return ""
    # In ssh's, who logs in is a part of the address ("git@"), and a password is never meant to be there.
    user = f"{parts.username}@" if parts.scheme == "ssh" and parts.username else ""
    return urlunsplit((parts.scheme, f"{user}{f'[{host}]' if ':' in host else host}{port}", parts.path, "", ""))
