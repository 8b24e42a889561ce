"""An inventory as SPDX 2.3 in JSON (spdx.github.io/spdx-spec/v2.3)."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from license_expression import ExpressionError, LicenseExpression, get_spdx_licensing
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from unikernel.sbom.component import Component
from unikernel.sbom.inventory import TIMESTAMP, Inventory

_DOCUMENT = "SPDXRef-DOCUMENT"
_IMAGE = "SPDXRef-image"
_NOT_IN_IDENTIFIERS = re.compile(r"[^A-Za-z0-9.-]+")


def to_spdx(inventory: Inventory) -> str:
    """The document, with a newline at its end: the same bytes for the same inventory."""
    licenses = _Licenses()
    image = Package(
        spdx_id=_IMAGE,
        name=inventory.name,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        primary_package_purpose=PackagePurpose.FIRMWARE,
    )
    parts = [_package(component, f"SPDXRef-component-{number}", licenses) for number, component in enumerate(inventory.ordered())]
    document = Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id=_DOCUMENT,
            name=inventory.name,
            # Unique for each content, as the specification wants it; nothing needs to be there.
            document_namespace=f"urn:uuid:{inventory.uuid}",
            creators=[Actor(ActorType.TOOL, f"unikernel-{inventory.tool_version}")],
            created=TIMESTAMP.replace(tzinfo=None),
        ),
        packages=[image, *parts],
        relationships=[
            Relationship(_DOCUMENT, RelationshipType.DESCRIBES, _IMAGE),
            *(Relationship(_IMAGE, RelationshipType.CONTAINS, part.spdx_id) for part in parts),
        ],
        extracted_licensing_info=licenses.extracted(),
    )
    stream = io.StringIO()
    # Not validated each time, which takes longer than all else: a test does it.
    write_document_to_stream(document, stream, validate=False)
    return stream.getvalue() + "\n"


def _package(component: Component, identifier: str, licenses: _Licenses) -> Package:
    references = []
    if component.purl:
        references.append(ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", component.purl))
    return Package(
        spdx_id=identifier,
        name=component.name,
        version=component.version or None,
        file_name=component.path or None,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, component.sha256)] if component.sha256 else [],
        license_declared=licenses.expression(component.licenses),
        license_concluded=SpdxNoAssertion(),
        external_references=references,
        primary_package_purpose=PackagePurpose[component.kind.name],
    )


class _Licenses:
    """Expressions of SPDX for what components say; names that SPDX does not have become references that the document explains."""

    def __init__(self) -> None:
        self._licensing = get_spdx_licensing()
        self._names: dict[str, str] = {}

    def expression(self, names: Sequence[str]) -> LicenseExpression | SpdxNoAssertion:
        """Without a word on how several names belong together, all of them hold."""
        known = [self._known(name) for name in names]
        return self._licensing.parse(" AND ".join(f"({text})" for text in known)) if known else SpdxNoAssertion()

    def _known(self, name: str) -> str:
        try:
            return str(self._licensing.parse(name, validate=True, strict=True))
        except (ExpressionError, ValueError):
            return self._reference(name)

    def _reference(self, name: str) -> str:
        plain = _NOT_IN_IDENTIFIERS.sub("-", name).strip("-") or "unnamed"
        reference = f"LicenseRef-{plain}"
        number = 1
        while self._names.setdefault(reference, name) != name:
            number += 1
            reference = f"LicenseRef-{plain}-{number}"
        return reference

    def extracted(self) -> list[ExtractedLicensingInfo]:
        return [
            ExtractedLicensingInfo(license_id=reference, extracted_text=name, license_name=name)
            for reference, name in sorted(self._names.items())
        ]
