"""What the greeter says."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from markupsafe import Markup
from web.server import Answer

_PAGE = Markup("<!DOCTYPE html>\n<title>Greeter</title>\n<p>Hello, {}!</p>\n")


def greet(path: str) -> Answer:
    """A page that greets who the query's `name` names; what it says is escaped."""
    url = urlsplit(path)
    if url.path not in ("/", "/greet"):
        return 404, "text/plain; charset=utf-8", b"Not found\n"
    name = parse_qs(url.query).get("name", ["world"])[0]
    return 200, "text/html; charset=utf-8", _PAGE.format(name).encode()
