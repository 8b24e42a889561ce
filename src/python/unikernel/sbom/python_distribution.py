"""What a Python distribution says of itself in its METADATA (packaging.python.org, "Core metadata specifications")."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from packageurl import PackageURL
from packaging.metadata import parse_email
from packaging.utils import canonicalize_name

from unikernel.sbom.component import Component, ComponentKind

_CLASSIFIER = "License :: "
_OSI = "OSI Approved"
# A `License` field may hold a whole licence text; a name is shorter.
_LONGEST_NAME = 100


def distribution_component(metadata: bytes, files: Mapping[str, str]) -> Component | None:
    """`files` are the digests (SHA-256, hex) of what it brought into the image, by path. None for metadata without a name."""
    raw, _ = parse_email(metadata)
    name, version = raw.get("name"), raw.get("version", "")
    if not name:
        return None
    return Component(
        ComponentKind.LIBRARY,
        name,
        version,
        PackageURL("pypi", None, canonicalize_name(name), version or None).to_string(),
        _licenses(raw.get("license_expression", ""), raw.get("classifiers", []), raw.get("license", "")),
        files_digest(files),
    )


def files_digest(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) over the lines "DIGEST  PATH" in the order of the paths, as `sha256sum` prints them."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _licenses(expression: str, classifiers: list[str], text: str) -> tuple[str, ...]:
    if expression:
        return (expression,)
    first_line = text.strip().splitlines()[0].strip() if text.strip() else ""
    if first_line and len(text.strip()) <= _LONGEST_NAME and first_line.upper() != "UNKNOWN":
        return (first_line,)
    named = [classifier[len(_CLASSIFIER) :].split(" :: ") for classifier in classifiers if classifier.startswith(_CLASSIFIER)]
    return tuple(sorted({parts[-1] for parts in named if parts[-1] != _OSI}))
