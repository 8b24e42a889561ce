"""What an SBOM lists, independent of its format. The layers of a root file system say in their indexes what they brought."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class ComponentKind(str, Enum):
    """As CycloneDX names them; SPDX has the same as `primaryPackagePurpose`."""

    APPLICATION = "application"
    LIBRARY = "library"
    OPERATING_SYSTEM = "operating-system"
    FILE = "file"


@dataclass(frozen=True, order=True)
class Component:
    """`licenses` are as its own metadata has them: SPDX expressions or names. `sha256` (hex) is of the file `path`, where the component
    is one file, or over its files (see `files_digest`). `purl` is a package URL (github.com/package-url/purl-spec).
    """

    kind: ComponentKind
    name: str
    version: str = ""
    purl: str = ""
    licenses: tuple[str, ...] = ()
    sha256: str = ""
    path: str = ""

    def to_document(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Component:
        values: dict[str, Any] = {
            **document,
            "kind": ComponentKind(document["kind"]),
            "licenses": tuple(document.get("licenses", ())),
        }
        return cls(**values)


def files_digest(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) over the lines "DIGEST  PATH" in the order of the paths, as `sha256sum` prints them: of several files as one."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
