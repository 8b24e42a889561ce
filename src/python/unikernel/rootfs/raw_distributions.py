"""The distributions of a PEX on their way from the step that takes it apart to the one that makes their layer.

One deterministic tar: a build system compares and stores one file faster than thousands, and has this one unchanged whenever only the
application's code changed.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

from unikernel.rootfs.cpio import MODIFICATION_TIME

_CONSTRAINTS = "interpreter-constraints.json"
_DISTRIBUTIONS = "distributions"


def pack_distributions(distributions: Path, constraints: Sequence[str], archive: Path) -> None:
    """Packs what is below `distributions`, and the interpreters that it was resolved for."""
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, _CONSTRAINTS, json.dumps(list(constraints)).encode())
        for path in sorted(distributions.rglob("*")):
            if path.is_file():
                mode = 0o755 if os.access(path, os.X_OK) else 0o644
                _add(tar, f"{_DISTRIBUTIONS}/{path.relative_to(distributions)}", path.read_bytes(), mode)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = mode
    info.mtime = MODIFICATION_TIME
    tar.addfile(info, io.BytesIO(content))


def unpack_distributions(archive: Path, destination: Path) -> list[str]:
    """Lays the distributions out below `destination`; returns the interpreter constraints."""
    constraints: list[str] = []
    destination.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            if member.name == _CONSTRAINTS:
                constraints = json.loads(content.read())
                continue
            target = destination / member.name.split("/", 1)[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
            target.chmod(member.mode)
    return constraints
