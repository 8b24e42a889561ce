"""How cosign 1 and 2 keep signatures and attestations in a registry: as layers of an image.

Specification: sigstore/cosign, specs/SIGNATURE_SPEC.md and ATTESTATION_SPEC.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
# The annotation of a layer that has its signature; an envelope has its own, and this is empty.
SIGNATURE = "dev.cosignproject.cosign/signature"
# cosign's own time for what has none.
_CREATED = "0001-01-01T00:00:00Z"


def signatures_config(digests: Sequence[str]) -> dict[str, Any]:
    """The configuration of such an image, whose layers are no archives, and not compressed."""
    return {
        "architecture": "",
        "config": {},
        "created": _CREATED,
        "history": [{"created": _CREATED} for _ in digests],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": list(digests)},
    }
