"""Somebody without rights on a bare Debian, who has just cloned this repository."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from bare_debian.chroot import DebianChroot

_USER = "ada"
_HOME = f"/home/{_USER}"
# A space and a letter outside ASCII, as in many a home.
CHECKOUT = f"{_HOME}/my projet é"
PANTS_CACHES = f"{_HOME}/.cache/pants"
GIT = "git -c user.name=Ada -c user.email=ada@example.org"
# All of this repository, below the sandbox.
_CLONE = Path("clone")


@dataclass(frozen=True)
class Newcomer:
    """An ordinary user of `debian` with a clone in a HOME that has nothing else."""

    debian: DebianChroot

    @classmethod
    def arrive(cls, debian: DebianChroot) -> Newcomer:
        """Add the user to the machine, and clone the repository."""
        debian.add_user(_USER)
        shutil.copytree(_CLONE, debian.path(CHECKOUT))
        debian.succeed(f"chown -R {_USER}: {_HOME} && chmod -R u+w {_HOME}")
        newcomer = cls(debian)
        newcomer.succeed(f"git init --quiet && git add --all && {GIT} commit --quiet --message='A clone'")
        return newcomer

    @property
    def dist(self) -> Path:
        """The checkout's dist/, as the host sees it."""
        return self.debian.path(CHECKOUT) / "dist"

    @property
    def development_key(self) -> Path:
        """The public part of the key that images are signed with by default."""
        return self.debian.path(f"{_HOME}/.config/unikernel/development-key.pub")

    def succeed(self, script: str, *, offline: bool = False) -> str:
        """Run a script in the checkout, which has to succeed, and return what it printed."""
        return self.debian.succeed(_in_checkout(script), user=_USER, offline=offline)

    def fail(self, script: str) -> str:
        """Run a script in the checkout, which has to fail, and return what it printed."""
        return self.debian.fail(_in_checkout(script), user=_USER)


def readme_command() -> str:
    """Return the README's first command, as a newcomer copies it."""
    match = re.search(r"^\$ (\./bootstrap && \./pants package [^#\n]*)", (_CLONE / "README.md").read_text(), re.MULTILINE)
    assert match is not None
    return match[1].strip()


def _in_checkout(script: str) -> str:
    return f"cd '{CHECKOUT}' && {script}"
