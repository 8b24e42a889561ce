"""Writes YAML that every reader reads alike: those of YAML 1.1, of 1.2, and of Go, which take from both.

They differ in which plain words are no strings ("y", "on", "1e3", "0o17", "0x1F", "12:30:45"): only what is a string to all of
them is written without quotes. https://yaml.org/type/bool.html, https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
import sys
from typing import Any

import yaml

# No number starts with a letter, and these words are all that do and are no strings.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_NO_STRINGS = frozenset(("false", "n", "no", "null", "off", "on", "true", "y", "yes"))


class _Dumper(yaml.SafeDumper):
    """Without anchors: what is there twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _NO_STRINGS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


def to_yaml(document: Any) -> str:
    """Keys stay in their order; a line is as long as what it has."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=sys.maxsize)
