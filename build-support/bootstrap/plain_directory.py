"""A directory for what Pants cannot use in just any path."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from errors import BootstrapError

_BELOW = Path("/var/tmp")


def plain_directory(state: Path) -> Path:
    """Return `state` if its path has letters, digits and "_./+-" alone, else one of this user's below /var/tmp that belongs to it.

    Pants 2.17 encodes spaces and letters outside ASCII of a `file://` address and then looks for the encoded path, and its scripts
    split the path of the interpreter that it runs on at spaces.
    """
    state = state.absolute()
    if re.fullmatch(r"[A-Za-z0-9_./+-]*", str(state)):
        return state
    own = _BELOW / f"unikernel-bootstrap-{os.geteuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.geteuid() or own.stat().st_mode & 0o022:
        raise BootstrapError(
            f"{own} belongs to somebody else or can be written by others. Move it away, then run ./bootstrap again."
        )
    directory = own / hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    directory.mkdir(exist_ok=True)
    return directory
