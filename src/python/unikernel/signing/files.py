"""What is beside an image, by name: `image` is the image's path, or its name alone."""

from __future__ import annotations

import posixpath

# Kind -> the predicate type of its attestation, which cosign knows as `--type spdxjson` and `--type cyclonedx`.
SBOM_TYPES = {"spdx": "https://spdx.dev/Document", "cdx": "https://cyclonedx.org/bom"}


def manifest_path(image: str) -> str:
    return f"{posixpath.splitext(image)[0]}.json"


def debug_path(image: str) -> str:
    """Of its debug file, which is there on request, and is not signed."""
    return f"{image}.debug"


def sbom_path(image: str, kind: str) -> str:
    return f"{posixpath.splitext(image)[0]}.{kind}.json"


def bundle_path(image: str) -> str:
    return f"{image}.sigstore.json"


def provenance_path(image: str) -> str:
    return f"{image}.intoto.jsonl"


def sbom_attestation_path(image: str, kind: str) -> str:
    return f"{image}.{kind}.intoto.jsonl"


def paths_beside(image: str, *, signed: bool = True) -> list[str]:
    """All that is beside an image."""
    signatures = signature_paths(image) if signed else []
    return [manifest_path(image), *(sbom_path(image, kind) for kind in SBOM_TYPES), *signatures]


def signature_paths(image: str) -> list[str]:
    """All that signing makes."""
    return [bundle_path(image), provenance_path(image), *(sbom_attestation_path(image, kind) for kind in SBOM_TYPES)]


def signatures_path(layout: str) -> str:
    """Of the OCI layout with the signatures of what an OCI layout has in it."""
    return f"{layout}.signatures"
