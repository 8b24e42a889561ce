"""The source files of this package, as it is installed."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

import unikernel
from unikernel.errors import UnikernelError

_NOT_SHIPPED = ("__pycache__", "testing")
# A checkout has tests and BUILD files, and a wheel has not: with them, a test would change images.
_NOT_SHIPPED_ENDINGS = (".pyc", "_test.py", "_test.c")


def package_sources(*patterns: str) -> dict[str, bytes]:
    """Return the files of the package, data files included, by path in it and in a fixed order.

    With `patterns` (globs of paths in the package), return only those that match one. Raises
    UnikernelError for a pattern that matches none.
    """
    root = Path(unikernel.__path__[0])
    sources = {}
    unmatched = set(patterns)
    for directory, subdirectories, files in os.walk(root):
        subdirectories[:] = sorted(name for name in subdirectories if name not in _NOT_SHIPPED and not name.startswith("."))
        for file in sorted(files):
            path = Path(directory, file)
            if file == "BUILD" or file.endswith(_NOT_SHIPPED_ENDINGS):
                continue
            relative = path.relative_to(root).as_posix()
            matching = {pattern for pattern in patterns if fnmatch(relative, pattern)}
            unmatched -= matching
            if matching or not patterns:
                sources[relative] = path.read_bytes()
    if unmatched:
        raise UnikernelError(
            f"The Python package `unikernel` in {root} has no file {' or '.join(sorted(unmatched))}: it is incomplete, or of "
            "another version than what uses it. Install the distributions pants-unikernel and unikernel of one version."
        )
    return sources
