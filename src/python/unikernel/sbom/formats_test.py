"""Both formats, held against their own projects' validators."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.json import json_parser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from unikernel.sbom.__main__ import main
from unikernel.sbom.component import Component, ComponentKind
from unikernel.sbom.cyclonedx import to_cyclonedx
from unikernel.sbom.inventory import Inventory
from unikernel.sbom.spdx import to_spdx

_COMPONENTS = (
    Component(ComponentKind.LIBRARY, "markupsafe", "3.0.4", "pkg:pypi/markupsafe@3.0.4", ("BSD-3-Clause",), "ab" * 32),
    Component(
        ComponentKind.LIBRARY, "libc6", "2.36-9", "pkg:deb/debian/libc6@2.36-9", ("LGPL-2.1+", "GPL-2"), "cd" * 32, "/lib/libc.so.6"
    ),
    Component(ComponentKind.OPERATING_SYSTEM, "linux", "6.1.192", "", ("GPL-2.0-only WITH Linux-syscall-note",), "ef" * 32),
    Component(
        ComponentKind.LIBRARY, "odd", licenses=("BSD, or so (see LICENSE)", "BSD or so see LICENSE", "(", "MIT OR Apache-2.0")
    ),
    Component(ComponentKind.APPLICATION, "ünï/code", licenses=("é",)),
    Component(ComponentKind.FILE, "plain"),
)
_INVENTORY = Inventory("greeter.elf", _COMPONENTS, "0.1.0")


@pytest.mark.parametrize("components", [(), *((component,) for component in _COMPONENTS), _COMPONENTS])
def test_documents_are_valid(tmp_path: Path, components: tuple[Component, ...]) -> None:
    inventory = Inventory("greeter.elf", components, "0.1.0")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(to_cyclonedx(inventory)) is None
    (tmp_path / "image.spdx.json").write_text(to_spdx(inventory))
    assert validate_full_spdx_document(json_parser.parse_from_file(str(tmp_path / "image.spdx.json"))) == []


def test_the_order_and_the_number_of_times_that_components_come_in_do_not_matter() -> None:
    other = Inventory("greeter.elf", [*reversed(_COMPONENTS), *_COMPONENTS], "0.1.0")
    assert to_cyclonedx(other) == to_cyclonedx(_INVENTORY)
    assert to_spdx(other) == to_spdx(_INVENTORY)


def test_cyclonedx_says_what_is_in_the_image() -> None:
    document = json.loads(to_cyclonedx(_INVENTORY))
    assert document["metadata"]["component"]["name"] == "greeter.elf"
    by_name = {component["name"]: component for component in document["components"]}
    assert set(by_name) == {component.name for component in _COMPONENTS}
    assert by_name["markupsafe"]["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]
    assert by_name["linux"]["licenses"] == [{"expression": "GPL-2.0-only WITH Linux-syscall-note"}]
    assert {"license": {"name": "MIT OR Apache-2.0"}} in by_name["odd"]["licenses"]
    assert by_name["libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9"
    [image] = [entry for entry in document["dependencies"] if entry["ref"] == "image"]
    assert len(image["dependsOn"]) == len(_COMPONENTS)


def test_spdx_says_what_is_in_the_image() -> None:
    document = json.loads(to_spdx(_INVENTORY))
    by_name = {package["name"]: package for package in document["packages"]}
    assert set(by_name) == {"greeter.elf", *(component.name for component in _COMPONENTS)}
    assert by_name["markupsafe"]["licenseDeclared"] == "BSD-3-Clause"
    assert by_name["libc6"]["licenseDeclared"] == "LGPL-2.1-or-later AND LicenseRef-GPL-2"
    assert by_name["libc6"]["externalRefs"][0]["referenceLocator"] == "pkg:deb/debian/libc6@2.36-9"
    texts = {entry["licenseId"]: entry["extractedText"] for entry in document["hasExtractedLicensingInfos"]}
    # Two names that would get the same identifier.
    assert texts["LicenseRef-BSD-or-so-see-LICENSE"] != texts["LicenseRef-BSD-or-so-see-LICENSE-2"]
    contained = [entry for entry in document["relationships"] if entry["relationshipType"] == "CONTAINS"]
    assert len(contained) == len(_COMPONENTS)


def test_an_inventory_is_read_as_it_was_written() -> None:
    again = Inventory.from_json(_INVENTORY.to_json())
    assert again.ordered() == _INVENTORY.ordered()
    assert again.uuid == _INVENTORY.uuid != Inventory("other.elf", _COMPONENTS, "0.1.0").uuid


def test_the_step_writes_both(tmp_path: Path) -> None:
    (tmp_path / "inventory.json").write_text(_INVENTORY.to_json())
    spdx, cyclonedx = tmp_path / "out/image.spdx.json", tmp_path / "out/image.cdx.json"
    options = [f"--inventory={tmp_path / 'inventory.json'}", f"--spdx={spdx}", f"--cyclonedx={cyclonedx}"]
    assert main(options) == 0
    assert spdx.read_text() == to_spdx(_INVENTORY)
    assert cyclonedx.read_text() == to_cyclonedx(_INVENTORY)
