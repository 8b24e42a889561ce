"""`package` and `experimental-deploy` for `unikernel_deployment`: manifests that name images by digest, and what applies them."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from pants.backend.docker.subsystems.docker_options import DockerOptions
from pants.core.goals.deploy import DeployFieldSet, DeployProcess
from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import FileContent
from pants.engine.process import InteractiveProcess, Process
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import Target
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.deployment_types import BuiltDeployment, UnikernelDeploymentFieldSet
from pants_unikernel.goals.package_image import BuiltOciLayout, image_of, layouts_of
from pants_unikernel.image_types import Toolkit, UnikernelImageFieldSet
from pants_unikernel.package_types import OwnPackage, OwnPackageFieldSet
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.target_types import default_hostname
from pants_unikernel.util_rules.destinations import Destination, find_destinations, registry_address
from pants_unikernel.util_rules.failures import UnikernelBuildError, run_step
from pants_unikernel.util_rules.lookup import find_one_target, find_program
from unikernel.oci.layout import DISK_DIRECTORY, IMAGE_PATH
from unikernel.signing.files import manifest_path

_WORKLOAD = "workload.json"
# What kubectl knows a cluster by.
_ENVIRONMENT = ("HOME", "KUBECONFIG", "PATH", "HTTPS_PROXY", "NO_PROXY", "https_proxy", "no_proxy")


async def _image_target(field_set: UnikernelDeploymentFieldSet) -> Target:
    field = field_set.image
    target = await find_one_target(field)
    if not UnikernelImageFieldSet.is_applicable(target):
        raise UnikernelBuildError(
            f"{field.address}: the `{field.alias}` field names {field.value}, a `{target.alias}`; name a `unikernel_image`."
        )
    return target


async def _destination(field_set: UnikernelDeploymentFieldSet, image: UnikernelImageFieldSet, docker: DockerOptions) -> Destination:
    destinations = [found for found in await find_destinations(image, docker) if not found.skipped]
    wanted = field_set.registry.value
    if wanted is not None:
        address = registry_address(wanted, docker, f"{field_set.address}: the `{field_set.registry.alias}` field")
        destinations = [found for found in destinations if found.registry == address]
    if not destinations:
        named = f"{image.address} is not pushed to {wanted}" if wanted else f"{image.address} is pushed to no registry"
        raise UnikernelBuildError(
            f"{field_set.address}: {named}, so there is nothing that a cluster could pull: name one by its `{image.registries.alias}` or "
            "in [docker.registries]."
        )
    return destinations[0]


async def _workload(field_set: UnikernelDeploymentFieldSet, package: BuiltPackage, destination: Destination) -> dict[str, Any]:
    """As unikernel.deploy.workload reads it."""
    image, layouts = image_of(package), {layout.format: layout for layout in layouts_of(package)}
    assert image.relpath is not None
    manifest = json.loads(await engine.file_content(package.digest, manifest_path(image.relpath)))
    workload = {
        "name": default_hostname(manifest["name"]).lower(),
        "target": str(field_set.address),
        "memory": int(manifest["memory_bytes"]),
        "cpus": manifest["cpus"],
        "ports": [{"port": port["guest_port"], "protocol": port["protocol"]} for port in manifest.get("ports", ())],
        "namespace": field_set.namespace.value or "",
        "replicas": field_set.replicas.value,
        "labels": dict(field_set.labels.value or {}),
        "runtime_class": field_set.runtime_class.value,
        "service_account": field_set.service_account.value or "",
        "deploy_as": field_set.deploy_as.value or "",
    }
    for kind, name in (("container", "container_image"), ("oci", "unikernel_image")):
        layout = layouts.get(kind)
        if layout is not None and layout.image is not None:
            workload[name] = f"{destination.repository}@{layout.image.digest}"
    if "oci" in layouts:
        described = await _package_annotations(package, layouts["oci"])
        workload["image_path"] = described[IMAGE_PATH]
        workload["kind"] = "disk" if posixpath.dirname(described[IMAGE_PATH]) == DISK_DIRECTORY else "elf"
    return workload


async def _package_annotations(package: BuiltPackage, layout: BuiltOciLayout) -> Mapping[str, str]:
    assert layout.image is not None
    manifest: dict[str, Any] = json.loads(await engine.file_content(package.digest, f"{layout.path}/{layout.image.blob}"))
    return manifest["annotations"]


@rule(desc="Write the manifests of a deployment", level=LogLevel.DEBUG)
async def build_deployment(field_set: UnikernelDeploymentFieldSet, docker: DockerOptions, toolkit: Toolkit) -> BuiltDeployment:
    origin = str(field_set.address)
    target = await _image_target(field_set)
    image = UnikernelImageFieldSet.create(target)
    if not set(image.formats.value) & {"container", "oci"}:
        raise UnikernelBuildError(
            f"{origin}: the `{image.formats.alias}` of {image.address} have neither oci nor container, one of which a cluster pulls: add it."
        )
    destination = await _destination(field_set, image, docker)
    package = await engine.package_target(image.address)
    workload = await _workload(field_set, package, destination)
    path = field_set.output_path.value_or_default(file_ending=None)
    process = await toolkit_process(
        toolkit,
        ["deploy-manifests", f"--workload={_WORKLOAD}", f"--output={path}"],
        description=f"Write the manifests of {origin}",
        input_digests=[await engine.create_digest([FileContent(_WORKLOAD, json.dumps(workload, sort_keys=True).encode())])],
        output_directories=[path],
    )
    return BuiltDeployment((await run_step(process, origin)).output_digest, path, target)


@rule(desc="Package a deployment", level=LogLevel.DEBUG)
async def package_deployment(field_set: UnikernelDeploymentFieldSet) -> OwnPackage:
    built = await engine.build_deployment(field_set)
    return OwnPackage(BuiltPackage(built.digest, (BuiltPackageArtifact(built.path),)))


@rule(desc="Apply the manifests of a deployment", level=LogLevel.DEBUG)
async def deploy(field_set: UnikernelDeploymentFieldSet) -> DeployProcess:
    built = await engine.build_deployment(field_set)
    environment = await engine.environment_variables(EnvironmentVarsRequest(_ENVIRONMENT))
    what = f"{field_set.address}: kubectl, which applies its manifests,"
    kubectl = await find_program("kubectl", environment, what, "install it")
    process = Process(
        # Without --server-side, ports of one number for TCP and UDP become one.
        [kubectl, "apply", "--server-side", f"--kustomize={built.path}"],
        description=f"Apply the manifests of {field_set.address}",
        input_digest=built.digest,
        env=environment,
    )
    return DeployProcess(
        name=str(field_set.address), process=InteractiveProcess.from_process(process), publish_dependencies=(built.image,)
    )


def rules() -> Iterable[Rule | UnionRule]:
    return (
        *collect_rules(),
        UnionRule(OwnPackageFieldSet, UnikernelDeploymentFieldSet),
        UnionRule(DeployFieldSet, UnikernelDeploymentFieldSet),
    )
