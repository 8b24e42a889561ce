"""Everything that an SBOM is made of, independent of its format."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from unikernel.sbom.component import Component

# An SBOM has to say when it was made: here always then, as for all else that is in an image (see rootfs/cpio.py).
TIMESTAMP = datetime.datetime(1980, 1, 1, tzinfo=datetime.timezone.utc)


@dataclass(frozen=True)
class Inventory:
    """Of the image `name`, with the digest `sha256` (hex)."""

    name: str
    sha256: str
    components: Sequence[Component]
    tool_version: str

    @property
    def uuid(self) -> uuid.UUID:
        """The same for the same image."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{self.sha256}")

    def ordered(self) -> list[Component]:
        return sorted(set(self.components), key=lambda component: (component.kind.value, component.name.lower(), component))
