"""An inventory as CycloneDX 1.6 in JSON (ECMA-424)."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component as CycloneDxComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseExpression
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from unikernel.sbom.component import Component
from unikernel.sbom.inventory import TIMESTAMP, Inventory


def to_cyclonedx(inventory: Inventory) -> str:
    """The document, with a newline at its end: the same bytes for the same inventory."""
    image = CycloneDxComponent(
        name=inventory.name,
        type=ComponentType.FIRMWARE,
        bom_ref="image",
    )
    tool = CycloneDxComponent(name="unikernel", version=inventory.tool_version, type=ComponentType.APPLICATION)
    bom = Bom(
        serial_number=inventory.uuid,
        metadata=BomMetaData(component=image, timestamp=TIMESTAMP, tools=ToolRepository(components=[tool])),
    )
    components = [_component(component, f"component-{number}") for number, component in enumerate(inventory.ordered())]
    bom.components.update(components)
    bom.register_dependency(image, components)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _component(component: Component, reference: str) -> CycloneDxComponent:
    return CycloneDxComponent(
        name=component.name,
        version=component.version or None,
        type=ComponentType(component.kind.value),
        bom_ref=reference,
        purl=PackageURL.from_string(component.purl) if component.purl else None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=component.sha256)] if component.sha256 else [],
        licenses=_licenses(component.licenses),
        properties=[Property(name="unikernel:path", value=component.path)] if component.path else [],
    )


def _licenses(names: Iterable[str]) -> list[License]:
    """An expression stands alone (the schema says so); names, and identifiers of SPDX, do not."""
    made = [_license_factory().make_from_string(name) for name in names]
    if len(made) == 1:
        return made
    return [DisjunctiveLicense(name=one.value) if isinstance(one, LicenseExpression) else one for one in made]


@functools.cache
def _license_factory() -> LicenseFactory:
    return LicenseFactory()
