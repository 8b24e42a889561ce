"""The real kubectl and KubeVirt's own schema, both downloaded if need be."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from unikernel.deploy.manifests import manifests, write_manifests
from unikernel.deploy.workload import Workload
from unikernel.testing.kubernetes import kustomized
from unikernel.testing.kubevirt import kubevirt_complaint
from unikernel.testing.workloads import TRAPS, workload, workloads


def _machine(made: Workload) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(manifests(made)["virtual-machine.yaml"])
    return document


@pytest.mark.parametrize(
    "changes", [{}, {"kernel_arguments": "quiet"}, {"ports": ()}, {"kind": "disk"}, {"kind": "disk", "image_path": ""}]
)
def test_a_virtual_machine_is_valid(changes: dict[str, Any]) -> None:
    assert kubevirt_complaint(_machine(workload(namespace="web", **changes))) == ""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ((), "elf"),
        (("spec",), "elf"),
        (("metadata",), "elf"),
        (("spec", "template"), "elf"),
        (("spec", "template", "spec"), "elf"),
        (("spec", "template", "spec", "domain"), "elf"),
        (("spec", "template", "spec", "domain", "cpu"), "elf"),
        (("spec", "template", "spec", "domain", "memory"), "elf"),
        (("spec", "template", "spec", "domain", "firmware"), "elf"),
        (("spec", "template", "spec", "domain", "firmware", "kernelBoot"), "elf"),
        (("spec", "template", "spec", "domain", "firmware", "kernelBoot", "container"), "elf"),
        (("spec", "template", "spec", "domain", "devices"), "elf"),
        (("spec", "template", "spec", "domain", "devices", "interfaces", 0), "elf"),
        (("spec", "template", "spec", "domain", "devices", "interfaces", 0, "masquerade"), "elf"),
        (("spec", "template", "spec", "domain", "devices", "interfaces", 0, "ports", 1), "elf"),
        (("spec", "template", "spec", "networks", 0), "elf"),
        (("spec", "template", "spec", "networks", 0, "pod"), "elf"),
        (("spec", "template", "spec", "domain", "devices", "disks", 0), "disk"),
        (("spec", "template", "spec", "domain", "devices", "disks", 0, "disk"), "disk"),
        (("spec", "template", "spec", "volumes", 0), "disk"),
        (("spec", "template", "spec", "volumes", 0, "containerDisk"), "disk"),
    ],
)
def test_a_virtual_machine_with_a_misspelt_key_is_not(path: tuple[Any, ...], kind: str) -> None:
    document = _machine(workload(kind=kind))
    place: Any = document
    for key in path:
        place = place[key]
    place["misspelt"] = "a"
    assert "misspelt" in kubevirt_complaint(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "template", "spec", "domain", "cpu", "cores"), "two"),
        (("spec", "template", "spec", "domain", "memory", "guest"), "lots"),
        (("spec", "template", "spec", "domain", "firmware", "kernelBoot", "container"), {}),
        (("apiVersion",), "kubevirt.io/v1alpha3"),
        (("spec", "template", "spec", "domain", "devices", "interfaces", 0, "name"), None),
    ],
)
def test_a_virtual_machine_with_a_wrong_value_is_not(path: tuple[Any, ...], value: Any) -> None:
    document = _machine(workload())
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert kubevirt_complaint(document) != ""


@given(workloads().filter(lambda made: bool(made.unikernel_image)))
@settings(max_examples=40, deadline=None)
def test_all_virtual_machines_are_valid(made: Workload) -> None:
    assert kubevirt_complaint(_machine(made)) == ""


def _read(text: str) -> list[dict[str, Any]]:
    return sorted(yaml.safe_load_all(text), key=lambda document: document["kind"])


@pytest.mark.parametrize("deploy_as", ["container", "unikernel", "virtual-machine"])
def test_kustomize_makes_of_it_what_is_in_the_files(deploy_as: str, tmp_path: Path) -> None:
    """Its reader is Go's, which is what clusters use."""
    labels = {trap: trap for trap in TRAPS if trap[-1] != "."}
    labels[f"{'a' * 63}.{'b' * 63}.example.com/{'c' * 63}"] = "long"
    made = workload(deploy_as=deploy_as, labels=labels, kernel_arguments="a=\"b c\" 'd' \\ é")
    service, deployed = _written(made, tmp_path)
    printed = kustomized(tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert _read(printed.stdout) == sorted((service, deployed), key=lambda document: str(document["kind"]))


def _written(made: Workload, directory: Path) -> list[dict[str, Any]]:
    """What kustomization.yaml lists."""
    write_manifests(made, directory)
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    return [yaml.safe_load((directory / name).read_text()) for name in kustomization["resources"]]


def test_one_line_flips_the_service(tmp_path: Path) -> None:
    write_manifests(workload(), tmp_path)
    before = _read(kustomized(tmp_path).stdout)
    file = tmp_path / "kustomization.yaml"
    flipped = file.read_text().replace("- deployment.container.yaml", "- deployment.unikernel.yaml")
    assert sum(a != b for a, b in zip(file.read_text().splitlines(), flipped.splitlines())) == 1
    file.write_text(flipped)
    after = _read(kustomized(tmp_path).stdout)
    expected = copy.deepcopy(before)
    pod = expected[0]["spec"]["template"]["spec"]
    pod["runtimeClassName"] = "urunc"
    pod["containers"][0]["image"] = workload().unikernel_image
    assert after == expected


def test_kustomize_says_what_is_misspelt(tmp_path: Path) -> None:
    write_manifests(workload(), tmp_path)
    file = tmp_path / "kustomization.yaml"
    file.write_text(file.read_text().replace("resources:", "resorces:"))
    assert kustomized(tmp_path).returncode != 0
