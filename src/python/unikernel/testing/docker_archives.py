"""Archives as `docker image save` writes them, made by hand."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def member(name: str, content: bytes = b"", **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A regular file, or what `changes` (fields of a TarInfo) make of it."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


def directory(name: str, mode: int = 0o755, **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=mode, **changes)


def link(name: str, target: str, **changes: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.SYMTYPE, linkname=target, **changes)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_image(
    path: Path,
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    *,
    is_compressed: bool = False,
    is_oci: bool = True,
    **changes: Any,
) -> str:
    """Writes an archive of tar archives; returns the image's id. `config` is the part of the configuration that says how it is run, and
    `changes` are to the whole of it. With `is_oci`, it is as Docker writes it since 25.
    """
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]},
        **changes,
    }
    encoded = json.dumps(document).encode()
    digest = hashlib.sha256(encoded).hexdigest()
    files: dict[str, bytes] = {}
    names = []
    for number, layer in enumerate(layers):
        content = gzip.compress(layer, mtime=0) if is_compressed else layer
        names.append(f"blobs/sha256/{hashlib.sha256(content).hexdigest()}" if is_oci else f"{number:064x}/layer.tar")
        files[names[-1]] = content
    config_name = f"blobs/sha256/{digest}" if is_oci else f"{digest}.json"
    files[config_name] = encoded
    manifest = [{"Config": config_name, "RepoTags": None, "Layers": names}]
    files["manifest.json"] = json.dumps(manifest).encode()
    path.write_bytes(tar(*(member(name, content) for name, content in files.items())))
    return f"sha256:{digest}"
