"""`package` of an image for other hypervisors: what is written beside it, and what is refused before anything is built."""

from __future__ import annotations

import json
import os
import re
import shlex
import uuid
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from pants_project import PantsProject, completed_processes
from unikernel.testing.cloud_hypervisor import vm_config
from unikernel.testing.firecracker import firecracker_complaint
from unikernel.testing.libvirt import boot_domain, domain_complaint

PROGRAM = "cc_sources(name='sources')\ncc_binary(name='program', dependencies=[':sources'])\n"
KVM = ("firecracker", "cloud-hypervisor", "libvirt")
ENDINGS = {".cloud-hypervisor.sh", ".firecracker.json", ".libvirt.xml"}


def image(name: str = "unikernel", **fields: Any) -> str:
    values = {"app": ":program", "memory": "32M", "ports": ["8080:80"], "formats": ["elf", *KVM], **fields}
    return f"unikernel_image(name={name!r}, {', '.join(f'{key}={value!r}' for key, value in values.items())})\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    with PantsProject(tmp_path_factory.mktemp("project")) as project:
        # Pants would know what it has made before, for whatever test.
        source = '#include <stdio.h>\nconst char made[] = "NEW";\nint main(void) { puts("hello"); return 7; }\n'
        project.write("app/main.c", source.replace("NEW", uuid.uuid4().hex))
        project.write("app/BUILD", PROGRAM + image())
        yield project


def configurations(project: PantsProject) -> dict[str, str]:
    directory = project.root / "dist/app"
    return {path.name: path.read_text() for path in directory.iterdir() if any(path.name.endswith(ending) for ending in ENDINGS)}


def test_an_image_has_a_configuration_beside_it_for_each_hypervisor(project: PantsProject) -> None:
    printed = project.succeed("package", "app:unikernel")
    titles = ("Firecracker", "cloud-hypervisor", "libvirt")
    assert {f"Configure {title} for app:unikernel" for title in titles} <= set(completed_processes(printed))
    written = configurations(project)
    assert written.keys() == {f"unikernel{ending}" for ending in ENDINGS}
    # What is declared and not done is said.
    assert "app:unikernel: Firecracker forwards no ports: what the image declares (8080 to 80/tcp)" in printed

    firecracker = json.loads(written["unikernel.firecracker.json"])
    assert firecracker_complaint(firecracker) == ""
    assert firecracker["machine-config"] == {"vcpu_count": 1, "mem_size_mib": 32}
    assert (project.root / "dist/app" / firecracker["boot-source"]["kernel_image_path"]).exists()

    script = project.root / "dist/app/unikernel.cloud-hypervisor.sh"
    assert os.access(script, os.X_OK)
    (command,) = re.findall(r'^exec cloud-hypervisor (.*) "\$@"$', written[script.name], re.MULTILINE)
    assert vm_config(shlex.split(command))["memory"] == {"size": 32 << 20}

    assert domain_complaint(written["unikernel.libvirt.xml"]) == ""
    domain = ElementTree.fromstring(written["unikernel.libvirt.xml"])
    assert (domain.findtext("name"), domain.findtext("os/kernel")) == ("app-unikernel", "/var/lib/libvirt/images/app-unikernel.elf")


def test_configurations_are_cached_and_a_further_one_makes_nothing_else_anew(project: PantsProject) -> None:
    project.succeed("package", "app:unikernel")
    before = configurations(project)
    for name in before:
        (project.root / "dist/app" / name).unlink()
    assert completed_processes(project.succeed("package", "app:unikernel")) == []
    assert configurations(project) == before
    project.write("app/BUILD", PROGRAM + image(formats=["elf", "firecracker"]))
    assert completed_processes(project.succeed("package", "app:unikernel")) == []


def test_libvirt_boots_the_domain(project: PantsProject) -> None:
    project.write("app/BUILD", PROGRAM + image())
    project.succeed("package", "app:unikernel")
    console = boot_domain(configurations(project)["unikernel.libvirt.xml"], project.root / "dist/app/unikernel.elf")
    # It has asked for an address before.
    assert console.replace("\r", "").splitlines() == ["hello", "unikernel: exited with status 7"]


def test_publish_has_nothing_to_push_of_an_image_with_configurations(project: PantsProject) -> None:
    project.write("app/BUILD", PROGRAM + image())
    assert "app:unikernel skipped (its `formats` have neither oci nor container)" in project.succeed("publish", "app:unikernel")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        (
            {"formats": ["elf", "xl"], "kernel_config": ["CONFIG_ACPI=y", "CONFIG_XEN=y"]},
            r"field has xl: its kernel knows nothing of Xen; build it with "
            r'kernel_config=["CONFIG_HVC_XEN=y", "CONFIG_XEN_NETDEV_FRONTEND=y", "CONFIG_XEN_PVH=y"]',
        ),
        (
            {"cpus": 2},
            'field has libvirt: its kernel would find only one of 2 CPUs there; build it with kernel_config=["CONFIG_ACPI=y"]',
        ),
        (
            {"cpus": 33, "formats": ["elf", "firecracker"]},
            "field has firecracker: the image is to have 33 CPUs, and Firecracker gives",
        ),
        (
            {"library_os": "nanos", "formats": ["elf", "firecracker"]},
            "field has firecracker: Firecracker does not boot images of nanos: its description",
        ),
        ({"formats": ["elf", "xen"]}, "formats"),
        ({"formats": ["elf", "xl", "xl"]}, "name elf, and each other format once"),
        ({"output_path": "a/b.xml"}, "is 'a/b.xml', where what is beside the image is written"),
    ],
)
def test_what_a_hypervisor_cannot_do_is_refused(project: PantsProject, fields: dict[str, Any], error: str) -> None:
    project.write("bad/main.c", "int main(void) { return 0; }\n")
    project.refuse(PROGRAM + image("bad", **fields), error)
