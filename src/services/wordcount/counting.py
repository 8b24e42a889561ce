"""What the word counter answers."""

from __future__ import annotations

from collections import Counter
from urllib.parse import parse_qs, urlsplit

import orjson
from web.server import Answer


def count(path: str) -> Answer:
    """The words of the query's `text` and how often each is there, as JSON."""
    text = parse_qs(urlsplit(path).query).get("text", [""])[0]
    words = Counter(text.lower().split())
    return 200, "application/json", orjson.dumps(dict(words), option=orjson.OPT_SORT_KEYS)
