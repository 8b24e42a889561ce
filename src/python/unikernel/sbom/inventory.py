"""Everything that an SBOM is made of, independent of its format."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from unikernel.sbom.component import Component

# An SBOM has to say when it was made: here always then, as for all else that is in an image (see rootfs/cpio.py).
TIMESTAMP = datetime.datetime(1980, 1, 1, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True)
class Inventory:
    """Of the image `name`. Its digest is not known yet: attestations say which image a document is about."""

    name: str
    components: Sequence[Component]
    tool_version: str

    @property
    def uuid(self) -> uuid.UUID:
        """The same for the same content."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:pants-unikernel:inventory:{self.to_json()}")

    def ordered(self) -> list[Component]:
        return sorted(set(self.components), key=lambda component: (component.kind.value, component.name.lower(), component))

    def to_json(self) -> str:
        components = [component.to_document() for component in self.ordered()]
        document = {"name": self.name, "components": components, "tool_version": self.tool_version}
        # Not indented, which is ten times slower: this is made of each image in each run.
        return json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Inventory:
        document = json.loads(text)
        components = [Component.of_document(component) for component in document["components"]]
        return cls(document["name"], components, document["tool_version"])
