"""What rules about deployments hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

from pants.core.goals.deploy import DeployFieldSet
from pants.engine.fs import Digest
from pants.engine.target import Target

from pants_unikernel.deployment_target import (
    DeploymentAsField,
    DeploymentImageField,
    DeploymentLabelsField,
    DeploymentNamespaceField,
    DeploymentOutputPathField,
    DeploymentRegistryField,
    DeploymentReplicasField,
    DeploymentRuntimeClassField,
    DeploymentServiceAccountField,
)
from pants_unikernel.package_types import OwnPackageFieldSet


@dataclass(frozen=True)
class UnikernelDeploymentFieldSet(OwnPackageFieldSet, DeployFieldSet):
    required_fields = (DeploymentImageField,)

    image: DeploymentImageField
    deploy_as: DeploymentAsField
    replicas: DeploymentReplicasField
    namespace: DeploymentNamespaceField
    labels: DeploymentLabelsField
    service_account: DeploymentServiceAccountField
    runtime_class: DeploymentRuntimeClassField
    registry: DeploymentRegistryField
    output_path: DeploymentOutputPathField


@dataclass(frozen=True)
class BuiltDeployment:
    """`digest` has the manifests in the directory `path`; `image` is the target of what they name."""

    digest: Digest
    path: str
    image: Target
