"""Manifests of a workload: of Kubernetes (https://kubernetes.io/docs/reference/kubernetes-api/), Kustomize and KubeVirt.

urunc (https://urunc.io) runs the pod of a Deployment as a unikernel if its runtime class says so: a service's two Deployments
differ in the image and the runtime class only.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unikernel.deploy.workload import CONTAINER, MANAGED_BY_LABEL, NAME_LABEL, UNIKERNEL, VIRTUAL_MACHINE, ServicePort, Workload
from unikernel.deploy.yaml_document import to_yaml
from unikernel.errors import UnikernelError

SERVICE_FILE = "service.yaml"
KUSTOMIZATION_FILE = "kustomization.yaml"
# What the workload is deployed as -> the manifest.
DEPLOYED_FILES = {
    CONTAINER: "deployment.container.yaml",
    UNIKERNEL: "deployment.unikernel.yaml",
    VIRTUAL_MACHINE: "virtual-machine.yaml",
}
TARGET_ANNOTATION = "unikernel/target"

_MANAGED_BY = "pants-unikernel"
# Below, a process needs CAP_NET_BIND_SERVICE (net.ipv4.ip_unprivileged_port_start, as container runtimes leave it).
_FIRST_UNPRIVILEGED_PORT = 1024
# As KubeVirt requests for a virtual CPU, so that all manifests ask a node for the same (cpuAllocationRatio, which is 10).
_REQUESTED_MILLICPUS = 100
_MEBIBYTE = 2**20
_MEMORY_COMMENT = "# The limit is the guest's memory: it is what the image declares.\n"
_VOLUME = "image"
_NETWORK = "default"


def write_manifests(workload: Workload, directory: Path) -> list[Path]:
    """Writes the workload's manifests, and removes those of an earlier run that it has no more. Returns what is written. Raises
    UnikernelError.
    """
    texts = manifests(workload)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # All are there before the first replaces an old one.
        with tempfile.TemporaryDirectory(prefix=".manifests-", dir=directory) as scratch:
            for name, text in texts.items():
                (Path(scratch) / name).write_text(text, encoding="utf-8")
            for name in texts:
                os.replace(Path(scratch) / name, directory / name)
        for name in (SERVICE_FILE, *DEPLOYED_FILES.values()):
            if name not in texts:
                (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise UnikernelError(f"The manifests cannot be written to {directory}: {error.strerror}.") from error
    return [directory / name for name in texts]


def manifests(workload: Workload) -> dict[str, str]:
    """The files' names -> what is in them."""
    documents = {SERVICE_FILE: service(workload)} if workload.ports else {}
    makers = {CONTAINER: container_deployment, UNIKERNEL: unikernel_deployment, VIRTUAL_MACHINE: virtual_machine}
    documents.update({DEPLOYED_FILES[choice]: makers[choice](workload) for choice in workload.choices})
    source = f"# From {workload.target}, by unikernel deploy-manifests.\n" if workload.target else ""
    comments = {DEPLOYED_FILES[UNIKERNEL]: _MEMORY_COMMENT, KUSTOMIZATION_FILE: _flip_comment(workload)}
    documents[KUSTOMIZATION_FILE] = kustomization(workload)
    return {name: source + comments.get(name, "") + to_yaml(document) for name, document in documents.items()}


# --- Kubernetes ---------------------------------------------------------------------------------------------------


def service(workload: Workload) -> dict[str, Any]:
    ports = [
        {"name": port.label, "port": port.port, "targetPort": port.port, "protocol": port.protocol.upper()}
        for port in workload.ports
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(workload),
        "spec": {"selector": _selector(workload), "ports": ports},
    }


def container_deployment(workload: Workload) -> dict[str, Any]:
    return _deployment(workload, workload.container_image, {})


def unikernel_deployment(workload: Workload) -> dict[str, Any]:
    return _deployment(workload, workload.unikernel_image, {"runtimeClassName": workload.runtime_class})


def _deployment(workload: Workload, image: str, runtime: dict[str, Any]) -> dict[str, Any]:
    if workload.service_account:
        account: dict[str, Any] = {"serviceAccountName": workload.service_account}
    else:
        # Who has no account of their own has no business with the API; urunc does not pass the token on.
        account = {"automountServiceAccountToken": False}
    container = {
        "name": workload.name,
        "image": image,
        **_container_ports(workload.ports),
        "resources": _resources(workload),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": _capabilities(workload.ports)},
    }
    pod = {
        **runtime,
        **account,
        # A variable or more for each Service of the namespace: urunc puts them on the kernel's command line, which has an end.
        "enableServiceLinks": False,
        # For urunc, that there is a profile says to use the VMM's own filter of system calls.
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(workload),
        "spec": {
            "replicas": workload.replicas,
            "selector": {"matchLabels": _selector(workload)},
            "template": {"metadata": {"labels": _labels(workload)}, "spec": pod},
        },
    }


def _metadata(workload: Workload) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": workload.name}
    if workload.namespace:
        metadata["namespace"] = workload.namespace
    metadata["labels"] = _labels(workload)
    if workload.target:
        metadata["annotations"] = {TARGET_ANNOTATION: workload.target}
    return metadata


def _labels(workload: Workload) -> dict[str, str]:
    return {**_selector(workload), MANAGED_BY_LABEL: _MANAGED_BY, **dict(sorted(workload.labels.items()))}


def _selector(workload: Workload) -> dict[str, str]:
    """A Deployment's cannot be changed: nothing is in it that ever has to."""
    return {NAME_LABEL: workload.name}


def _container_ports(ports: Iterable[ServicePort]) -> dict[str, Any]:
    listed = [{"name": port.label, "containerPort": port.port, "protocol": port.protocol.upper()} for port in ports]
    return {"ports": listed} if listed else {}


def _resources(workload: Workload) -> dict[str, Any]:
    """urunc gives the guest as much memory as the container's limit says, and 256 MB without one. What a guest has touched it
    never gives back, so as much is requested.
    """
    memory = memory_quantity(workload.memory)
    return {
        "requests": {"cpu": f"{workload.cpus * _REQUESTED_MILLICPUS}m", "memory": memory},
        "limits": {"cpu": str(workload.cpus), "memory": memory},
    }


def memory_quantity(size: int) -> str:
    """Rounded up: VMMs take whole mebibytes, and no guest is to have less than it needs."""
    return f"{-(-size // _MEBIBYTE)}Mi"


def _capabilities(ports: Iterable[ServicePort]) -> dict[str, Any]:
    capabilities = {"drop": ["ALL"]}
    if any(port.port < _FIRST_UNPRIVILEGED_PORT for port in ports):
        capabilities["add"] = ["NET_BIND_SERVICE"]
    return capabilities


# --- Kustomize ----------------------------------------------------------------------------------------------------


def kustomization(workload: Workload) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [*([SERVICE_FILE] if workload.ports else []), DEPLOYED_FILES[workload.choice]],
    }


def _flip_comment(workload: Workload) -> str:
    others = [DEPLOYED_FILES[choice] for choice in workload.choices if choice != workload.choice]
    if not others:
        return ""
    return f"# To run the service otherwise, replace {DEPLOYED_FILES[workload.choice]} below by {' or '.join(others)}.\n"


# --- KubeVirt -----------------------------------------------------------------------------------------------------


def virtual_machine(workload: Workload) -> dict[str, Any]:
    """One machine, whatever `replicas` is: a VirtualMachine has none. https://kubevirt.io/user-guide/"""
    ports = [{"name": port.label, "port": port.port, "protocol": port.protocol.upper()} for port in workload.ports]
    interface: dict[str, Any] = {"name": _NETWORK, "masquerade": {}}
    if ports:
        interface["ports"] = ports
    # A unikernel has neither a screen nor a driver that gives memory back.
    devices: dict[str, Any] = {"autoattachGraphicsDevice": False, "autoattachMemBalloon": False, "interfaces": [interface]}
    domain: dict[str, Any] = {
        "cpu": {"cores": workload.cpus},
        "memory": {"guest": memory_quantity(workload.memory)},
        "devices": devices,
    }
    machine: dict[str, Any] = {"domain": domain, "networks": [{"name": _NETWORK, "pod": {}}]}
    if workload.kind == "elf":
        domain["firmware"] = {"kernelBoot": _kernel_boot(workload)}
    else:
        devices["disks"] = [{"name": _VOLUME, "disk": {"bus": "virtio"}}]
        machine["volumes"] = [{"name": _VOLUME, "containerDisk": _container_disk(workload)}]
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": _metadata(workload),
        "spec": {"runStrategy": "Always", "template": {"metadata": {"labels": _labels(workload)}, "spec": machine}},
    }


def _kernel_boot(workload: Workload) -> dict[str, Any]:
    kernel_boot: dict[str, Any] = {"container": {"image": workload.unikernel_image, "kernelPath": workload.image_path}}
    if workload.kernel_arguments:
        kernel_boot["kernelArgs"] = workload.kernel_arguments
    return kernel_boot


def _container_disk(workload: Workload) -> dict[str, Any]:
    """Without a path it is the one file in /disk."""
    return {"image": workload.unikernel_image, **({"path": workload.image_path} if workload.image_path else {})}
