"""Sizes of images."""

from __future__ import annotations

from pathlib import Path

import zstandard


def sizes(image: Path) -> dict[str, float]:
    """In MB, as it is and compressed."""
    data = image.read_bytes()
    compressed = {f"zstd_{level}_mb": len(zstandard.compress(data, level)) / 10**6 for level in (3, 19)}
    return {"raw_mb": round(len(data) / 10**6, 3), **{name: round(size, 3) for name, size in compressed.items()}}
