"""Writes a root file system down as OSv's scripts for images read it: a line for each path, and where on this machine it is.

Format: scripts/manifest_common.py in OSv's source.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping

from unikernel.errors import UnikernelError
from unikernel.rootfs.merge import MergedRootfs


def osv_manifest(rootfs: MergedRootfs, files: Mapping[str, str]) -> str:
    """`files` says where the content of each regular file is. An empty directory has no line: it is not written down.

    Raises UnikernelError for a path that a line cannot have.
    """
    lines = ["[manifest]"]
    for path, entry in rootfs.entries.items():
        if ": " in path or "\n" in path or path != path.strip():
            raise UnikernelError(f"OSv's manifest cannot name {path!r}: there is a colon with a space, or an end of line, in it.")
        if entry.target is not None:
            lines.append(f"{path}: ->{entry.target}")
        elif stat.S_ISREG(entry.mode):
            lines.append(f"{path}: {files[path]}")
    return "\n".join(lines) + "\n"
