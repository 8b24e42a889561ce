"""The one error that ends the set-up: a line that names the problem and the fix."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class BootstrapError(Exception):
    """A user-fixable problem. Its text is one line: what was found, then what to do."""


def error_of(error: OSError, root: Path) -> BootstrapError:
    """Return the user-fixable error for a failed operating system call below `root`."""
    where = error.filename or root
    if error.errno == errno.ENOSPC:
        return full_disk_error(Path(str(where)))
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return BootstrapError(
            f"{where} cannot be written ({error.strerror}). Make it writable for this user, or clone the "
            "repository to a directory that is."
        )
    return BootstrapError(f"{where}: {error.strerror or error}. Run ./bootstrap again once that is mended.")


def full_disk_error(path: Path) -> BootstrapError:
    """Return the error for a file system without space that holds `path`."""
    while not path.exists():
        path = path.parent
    free = os.statvfs(path)
    megabytes = free.f_bavail * free.f_frsize // 10**6
    return BootstrapError(
        f"the disk that holds {path} is full ({megabytes:,} MB free). Free about 2 GB, then run ./bootstrap again."
    )
