"""The layer of extra files that an image declares."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

from unikernel.errors import UnikernelError
from unikernel.rootfs.elf_scan import note_tls, scan_elf_files
from unikernel.rootfs.layer import Layer, LayerIndex


@dataclass(frozen=True)
class PlacedFile:
    """`source` is relative to the build's directory; a directory is placed with all that is in it. `mode` is octal text or None."""

    source: str
    destination: str
    mode: Optional[str] = None


def to_json(files: Sequence[PlacedFile]) -> str:
    return json.dumps([asdict(file) for file in files], indent=1, sort_keys=True) + "\n"


def read_placed_files(path: Path) -> list[PlacedFile]:
    return [PlacedFile(**document) for document in json.loads(path.read_text())]


def parse_mode(text: str) -> int:
    """Permission bits from octal text such as "0644". Raises ValueError."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise ValueError(f'{text!r} is no mode; write it in octal, as "0644" or "0755"')
    return mode


def build_files_layer(root: Path, files: Sequence[PlacedFile], machine: str) -> tuple[Layer, LayerIndex]:
    layer = Layer("files")
    for file in files:
        source = root / file.source
        try:
            mode = parse_mode(file.mode) if file.mode is not None else None
        except ValueError as error:
            raise UnikernelError(f"files: {file.destination}: {error}.") from error
        if source.is_dir():
            for path in sorted(path for path in source.rglob("*") if path.is_file()):
                layer.add_file(posixpath.join(file.destination, str(path.relative_to(source))), path, mode)
        elif source.exists():
            layer.add_file(file.destination, source, mode)
        else:
            raise UnikernelError(f"files: {file.source} is not there.")
    index = LayerIndex("files", [])
    found = scan_elf_files(layer, index, machine)
    note_tls(layer, index, found)
    return layer, index
