"""Where the bytes of an image go: by layer, by directory, by file; as text, as a document, and as a treemap in one HTML file."""

from __future__ import annotations

import html
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unikernel.image.files import image_rootfs
from unikernel.image.manifest import read_manifest
from unikernel.rootfs.layer import readable

_LARGEST = 15
# Of the treemap: its size, below what a rectangle has no parts, and what its frame and its name take, in pixels.
_WIDTH, _HEIGHT, _LEAST, _FRAME, _TITLE = 1280, 800, 8, 2, 14
_COLOURS = ("#8dd3c7", "#ffffb3", "#bebada", "#fb8072", "#80b1d3", "#fdb462", "#b3de69", "#fccde5", "#d9d9d9", "#ccebc5")


@dataclass
class Part:
    """`size` is in bytes, with that of its parts. `path` is absolute; empty for what is no file."""

    name: str
    path: str = ""
    size: int = 0
    parts: dict[str, Part] = field(default_factory=dict)

    def add(self, path: str, size: int) -> None:
        """A file below this part."""
        part = self
        part.size += size
        for name in path.strip("/").split("/"):
            part = part.parts.setdefault(name, Part(name, f"{part.path}/{name}"))
            part.size += size

    def sorted(self) -> list[Part]:
        """The largest first."""
        return sorted(self.parts.values(), key=lambda part: (-part.size, part.name))

    def to_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"name": self.name, "size": self.size}
        if self.path:
            document["path"] = self.path
        return {**document, "parts": [part.to_document() for part in self.sorted()]} if self.parts else document


@dataclass(frozen=True)
class ImageSize:
    """`whole` has the library OS and the layers as its parts, and they have the files."""

    whole: Part
    library_os: Part
    layers: Sequence[Part]

    def files(self) -> Iterator[Part]:
        for layer in self.layers:
            yield from _leaves(layer)

    def to_text(self) -> str:
        lines = [f"{_amount(self.whole.size)}         {self.whole.name}"]
        for part in [self.library_os, *self.layers]:
            lines.append(f"{_amount(part.size)}  {_share(part, self.whole)}  {part.name}")
        lines.append("\nThe largest files:")
        largest = sorted(self.files(), key=lambda file: (-file.size, file.path))[:_LARGEST]
        lines += [f"{_amount(file.size)}  {_share(file, self.whole)}  {readable(file.path)}" for file in largest]
        return "\n".join(lines) + "\n"


def image_size(image: Path) -> ImageSize:
    """Raises UnikernelError for what is no image, and for an image whose files only its library OS can read."""
    manifest = read_manifest(image)
    whole = Part(image.name)
    layers: dict[str, Part] = {}
    with image_rootfs(image) as rootfs:
        for path, entry in rootfs.entries.items():
            if stat.S_ISREG(entry.mode):
                layers.setdefault(entry.layer, Part(entry.layer)).add(path, entry.size)
    whole.size = image.stat().st_size
    # All that is no content of a file: the kernel, what its sections and the archives' pages are filled up with, and the manifest.
    rest = Part(
        f"{manifest.library_os.name} {manifest.library_os.version}", size=whole.size - sum(part.size for part in layers.values())
    )
    ordered = sorted(layers.values(), key=lambda part: (-part.size, part.name))
    whole.parts = {part.name: part for part in [rest, *ordered]}
    return ImageSize(whole, rest, ordered)


def _leaves(part: Part) -> Iterator[Part]:
    if not part.parts:
        yield part
    for below in part.parts.values():
        yield from _leaves(below)


def _amount(size: int) -> str:
    for unit, factor in (("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:6.1f} {unit}"
    return f"{size:6} B "


def _share(part: Part, whole: Part) -> str:
    return f"{100 * part.size / whole.size:4.1f} %"


# --- the treemap --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rectangle:
    x: float
    y: float
    width: float
    height: float

    def inner(self) -> _Rectangle:
        """What is left for parts, below the name."""
        return _Rectangle(self.x + _FRAME, self.y + _TITLE, max(self.width - 2 * _FRAME, 0), max(self.height - _TITLE - _FRAME, 0))


def treemap(size: ImageSize) -> str:
    """One HTML file that needs nothing else. Areas are sizes; a rectangle says its path and size when it is pointed at.

    Layout: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000), by PyPI's squarify.
    """
    boxes: list[str] = []
    colours = {part.name: _COLOURS[number % len(_COLOURS)] for number, part in enumerate([size.library_os, *size.layers])}
    for part, place in _placed(size.whole.sorted(), _Rectangle(0, 0, _WIDTH, _HEIGHT)):
        _draw(part, place, colours[part.name], boxes)
    name = html.escape(f"{size.whole.name}: {_amount(size.whole.size).strip()}")
    return _PAGE.format(name=name, width=_WIDTH, height=_HEIGHT, boxes="\n".join(boxes))


def _placed(parts: Sequence[Part], place: _Rectangle) -> list[tuple[Part, _Rectangle]]:
    import squarify

    parts = [part for part in parts if part.size]
    if not parts or place.width < _LEAST or place.height < _LEAST:
        return []
    areas = squarify.normalize_sizes([part.size for part in parts], place.width, place.height)
    found = squarify.squarify(areas, place.x, place.y, place.width, place.height)
    return [(part, _Rectangle(box["x"], box["y"], box["dx"], box["dy"])) for part, box in zip(parts, found)]


def _draw(part: Part, place: _Rectangle, colour: str, boxes: list[str]) -> None:
    # A chain of directories with nothing else in them is one.
    while len(part.parts) == 1:
        part = next(iter(part.parts.values()))
    label = html.escape(readable(part.path or part.name), quote=True)
    name = html.escape(readable(part.name))
    style = f"left:{place.x:.1f}px;top:{place.y:.1f}px;width:{place.width:.1f}px;height:{place.height:.1f}px;background:{colour}"
    boxes.append(f'<div style="{style}" title="{label} ({_amount(part.size).strip()})">{name}</div>')
    for below, inner in _placed(part.sorted(), place.inner()):
        _draw(below, inner, colour, boxes)


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{name}</title>
<style>
body {{ font: 11px/13px sans-serif; margin: 16px }}
#map {{ position: relative; width: {width}px; height: {height}px }}
#map div {{ position: absolute; box-sizing: border-box; border: 1px solid #0004; overflow: hidden; white-space: nowrap; padding: 0 2px }}
#map div:hover {{ outline: 2px solid #000 }}
</style>
<h1>{name}</h1>
<div id="map">
{boxes}
</div>
</html>
"""
