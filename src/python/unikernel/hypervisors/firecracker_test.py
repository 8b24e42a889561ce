from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unikernel.hypervisors.configuration import write_configuration
from unikernel.hypervisors.machine import Choices
from unikernel.image.manifest_pb2 import Network
from unikernel.testing.firecracker import firecracker_complaint
from unikernel.testing.hypervisors import pvh_image


def _document(image: Path, **choices: Any) -> Any:
    output = write_configuration(image, "firecracker", choices=Choices(**choices))
    assert output == image.with_name(image.stem + ".firecracker.json")
    return json.loads(output.read_text())


def test_a_configuration_says_what_the_image_declares(tmp_path: Path) -> None:
    image = pvh_image(tmp_path / "unikernel.elf", cpus=2, memory_bytes=(64 << 20) + 1)
    document = _document(image)
    assert document == {
        # Without it Firecracker's own parameters would switch the console off.
        "boot-source": {"kernel_image_path": "unikernel.elf", "boot_args": "console=ttyS0"},
        "drives": [],
        "machine-config": {"vcpu_count": 2, "mem_size_mib": 65},
        "network-interfaces": [{"iface_id": "net0", "host_dev_name": "tap0"}],
    }
    assert firecracker_complaint(document) == ""


def test_an_image_without_a_network_has_no_card(tmp_path: Path) -> None:
    document = _document(pvh_image(tmp_path / "unikernel.elf", network=Network(mode="none")))
    assert "network-interfaces" not in document
    assert firecracker_complaint(document) == ""


def test_a_user_says_where_the_image_is_and_what_its_card_is_attached_to(tmp_path: Path) -> None:
    document = _document(pvh_image(tmp_path / "unikernel.elf"), image_path="/srv/a b.elf", attachment="fc-0")
    assert document["boot-source"]["kernel_image_path"] == "/srv/a b.elf"
    assert document["network-interfaces"][0]["host_dev_name"] == "fc-0"
    assert firecracker_complaint(document) == ""


@pytest.mark.parametrize("name", ["a b", "a,b='c'\"&<é>", "-dash", "$(id)", "back\\slash", "%s{}"])
def test_any_path_is_written_as_it_is(tmp_path: Path, name: str) -> None:
    document = _document(pvh_image(tmp_path / f"{name}.elf"))
    path = document["boot-source"]["kernel_image_path"]
    assert (tmp_path / path).samefile(tmp_path / f"{name}.elf")
    assert firecracker_complaint(document) == ""


def test_the_schema_refuses_what_firecracker_would(tmp_path: Path) -> None:
    document = _document(pvh_image(tmp_path / "unikernel.elf"))
    for changed in (
        {key: value for key, value in document.items() if key != "drives"},
        {key: value for key, value in document.items() if key != "boot-source"},
        {**document, "boot_source": {}},
        {**document, "machine-config": {"vcpu_count": 33, "mem_size_mib": 64}},
        {**document, "machine-config": {"vcpu_count": 1, "mem_size_mib": "64"}},
        {**document, "network-interfaces": [{"iface_id": "net0"}]},
        {**document, "boot-source": {"kernel_image_path": "a", "kernel": "b"}},
    ):
        assert firecracker_complaint(changed)
