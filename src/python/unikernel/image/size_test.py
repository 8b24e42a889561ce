from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from unikernel import cli
from unikernel.image.size import ImageSize, Part, image_size, treemap
from unikernel.image.spec import ImageSpec
from unikernel.testing.images import link_small_image, small_kit

_STYLE = re.compile(r"left:([\d.]+)px;top:([\d.]+)px;width:([\d.]+)px;height:([\d.]+)px")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    link_small_image(tmp_path, small_kit(tmp_path), "image.elf", ImageSpec(name="image"))
    return tmp_path / "image.elf"


def test_every_byte_is_somewhere(image: Path) -> None:
    size = image_size(image)
    assert size.whole.size == image.stat().st_size
    assert sum(part.size for part in size.whole.parts.values()) == size.whole.size
    assert sum(file.size for file in size.files()) == sum(layer.size for layer in size.layers) > 0
    sizes = {file.path: file.size for file in size.files()}
    assert sizes["/app/hello"] == (image.parent / "hello").stat().st_size
    assert size.library_os.name == "linux 6.1.1" and size.library_os.size > 0


def test_text_and_document(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["size", str(image)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].endswith("  image.elf")
    assert re.search(r"^ +[\d.]+ kB +\d+\.\d % +application$", printed, re.M)
    assert "/app/hello" in printed
    assert cli.main(["size", str(image), "--json", f"--html={image}.html"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["size"] == image.stat().st_size
    (application,) = (part for part in document["parts"] if part["name"] == "application")
    assert application["parts"][0]["path"] == "/app"
    assert Path(f"{image}.html").read_text().startswith("<!DOCTYPE html>")


def _size(**layers: dict[str, int]) -> ImageSize:
    rest, parts = Part("linux 6.1", size=1000), []
    for name, files in layers.items():
        parts.append(Part(name))
        for path, size in files.items():
            parts[-1].add(path, size)
    whole = Part("image.elf", size=rest.size + sum(part.size for part in parts))
    whole.parts = {part.name: part for part in [rest, *parts]}
    return ImageSize(whole, rest, parts)


class _Boxes(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, tuple[float, ...]] = {}
        self.others: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag == "div" and named.get("title"):
            match = _STYLE.match(named["style"] or "")
            assert match is not None
            self.found[str(named["title"])] = tuple(map(float, match.groups()))
        self.others += [str(value) for name, value in attributes if name in ("src", "href")]


def test_the_treemap_has_areas_by_size_and_needs_nothing_else() -> None:
    page = treemap(_size(python={"/usr/lib/a.so": 6000, "/usr/bin/python": 2000}, application={'/app/<i>&"': 1000}))
    boxes = _Boxes(page)
    assert boxes.others == [] and "http" not in page and "<script" not in page
    areas = {title: width * height for title, (_, _, width, height) in boxes.found.items()}
    whole = 1280 * 800
    assert areas["/usr (8.0 kB)"] == pytest.approx(whole * 0.8, rel=0.01)
    assert areas['/app/<i>&" (1.0 kB)'] == pytest.approx(whole * 0.1, rel=0.01)
    assert areas["/usr/lib/a.so (6.0 kB)"] / areas["/usr/bin/python (2.0 kB)"] == pytest.approx(3, rel=0.05)
    x, y, width, height = boxes.found["/usr (8.0 kB)"]
    inner_x, inner_y, inner_width, inner_height = boxes.found["/usr/lib/a.so (6.0 kB)"]
    assert x <= inner_x and y <= inner_y and inner_x + inner_width <= x + width and inner_y + inner_height <= y + height


def test_many_small_files_make_no_endless_page() -> None:
    files = {f"/usr/lib/{number}/{number}": 10 for number in range(3000)}
    assert len(treemap(_size(python=files, other={"/big": 10**9}))) < 10_000
