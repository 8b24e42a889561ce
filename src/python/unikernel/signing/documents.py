"""JSON that others wrote, read strictly: no name twice, nothing after the end, bounded in size and depth; and our own, written so that
the same content gives the same bytes."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unikernel.errors import UnikernelError

_LARGEST = 64 << 20
_LONGEST_NUMBER = 40


def read(path: Path, name: str, largest: int = _LARGEST) -> bytes:
    """Raises UnikernelError, with `name` in it, for a file that cannot be read or has more than `largest` bytes."""
    try:
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
    except OSError as error:
        raise UnikernelError(f"{name} cannot be read: {error.strerror}.") from error
    _check_size(content, largest, name)
    return content


def _check_size(content: bytes, largest: int, name: str) -> None:
    if len(content) > largest:
        limit = f"{largest >> 20} MiB" if largest >> 20 else f"{largest >> 10} KiB"
        raise UnikernelError(f"{name} is larger than {limit}.")


def parse(content: bytes, name: str) -> dict[str, Any]:
    """One JSON object. Raises UnikernelError, with `name` in it, for all else."""
    return _parse(content, name)[0]


def _parse(content: bytes, name: str) -> tuple[dict[str, Any], bytes]:
    """The object, and as `serialize` writes it."""
    _check_size(content, _LARGEST, name)
    try:
        document = json.loads(content.decode(), **_STRICT)
        # Fails for the halves of surrogate pairs, which are no text: nothing could write or print them.
        serialized = serialize(document)
    except (ValueError, RecursionError) as error:
        raise UnikernelError(f"{name} is no valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise UnikernelError(f"{name} is no JSON object.")
    return document, serialized


def parse_line(content: bytes, name: str) -> dict[str, Any]:
    """One object on one line, exactly as `serialize_line` makes it: of an altered file nothing is accepted, not even a space."""
    document, serialized = _parse(content, name)
    if serialized + b"\n" != content:
        raise UnikernelError(f"{name} is not as it was written: it was altered, or written by another program.")
    return document


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name is there twice in one object")
    return document


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _integer(digits: str) -> int:
    """The time that reading one takes grows with the square of its length."""
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


_STRICT: dict[str, Any] = {
    "object_pairs_hook": _without_duplicates,
    "parse_constant": _no_constant,
    "parse_int": _integer,
}


def member(document: Any, name: str) -> Mapping[str, Any]:
    """An object in an object; an empty one when there is none."""
    value = document.get(name) if isinstance(document, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def serialize(document: Any) -> bytes:
    """On one line, without a newline; names are sorted."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def serialize_line(document: Any) -> bytes:
    """As a file: the line with its newline."""
    return serialize(document) + b"\n"


def decode_base64(text: Any, name: str) -> bytes:
    """Raises UnikernelError for what is not base64 in its one canonical form."""
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        content = None
    if content is None or base64.b64encode(content).decode() != text:
        raise UnikernelError(f"{name} is not in base64.")
    return content
