"""What a Python distribution says of itself in its METADATA (packaging.python.org, "Core metadata specifications")."""

from __future__ import annotations

import email
import email.message
import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path

from packageurl import PackageURL
from packaging.utils import canonicalize_name

from unikernel.sbom.component import Component, ComponentKind, files_digest

_CLASSIFIER = "License :: "
_OSI = "OSI Approved"
# A `License` field may hold a whole licence text; a name is shorter.
_LONGEST_NAME = 100
# What an installer adds tells where it put a distribution, and that it did: nothing of the distribution itself.
_INSTALLERS_OWN = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")


def distribution_component(metadata: bytes, files: Mapping[str, str]) -> Component | None:
    """`files` are the digests (SHA-256, hex) of what it brought into the image, by path. None for metadata without a name."""
    # As importlib.metadata reads it; that one wants it in a directory.
    return _component(email.message_from_string(metadata.decode("utf-8", "replace")), files)


def installed_distribution(name: str) -> Component:
    """One that is installed beside this toolkit, which puts files of it into images."""
    distribution = importlib.metadata.distribution(name)
    files = {
        str(file): hashlib.sha256(Path(str(file.locate())).read_bytes()).hexdigest()
        for file in distribution.files or ()
        if file.suffix != ".pyc" and Path(str(file.locate())).is_file()
    }
    component = _component(distribution.metadata, files)
    assert component is not None
    return component


def _component(fields: email.message.Message, files: Mapping[str, str]) -> Component | None:
    name, version = _field(fields, "Name"), _field(fields, "Version")
    if not name:
        return None
    return Component(
        ComponentKind.LIBRARY,
        name,
        version,
        PackageURL("pypi", None, canonicalize_name(name), version or None).to_string(),
        _licenses(_field(fields, "License-Expression"), fields.get_all("Classifier", []), _field(fields, "License")),
        files_digest({path: sha256 for path, sha256 in files.items() if not _is_installers_own(path)}),
    )


def _is_installers_own(path: str) -> bool:
    directory, _, name = path.rpartition("/")
    return directory.endswith(".dist-info") and name in _INSTALLERS_OWN


def _field(fields: email.message.Message, name: str) -> str:
    return str(fields.get(name, "")).strip()


def _licenses(expression: str, classifiers: Sequence[str], text: str) -> tuple[str, ...]:
    if expression:
        return (expression,)
    first_line = text.strip().splitlines()[0].strip() if text.strip() else ""
    if first_line and len(text.strip()) <= _LONGEST_NAME and first_line.upper() != "UNKNOWN":
        return (first_line,)
    named = [classifier[len(_CLASSIFIER) :].split(" :: ") for classifier in classifiers if classifier.startswith(_CLASSIFIER)]
    return tuple(sorted({parts[-1] for parts in named if parts[-1] != _OSI}))
