"""What an SBOM lists, independent of its format. The layers of a root file system say in their indexes what they brought."""

from __future__ import annotations

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
