"""The `unikernel_deployment` target: what runs an image in a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from pants.engine.addresses import Address
from pants.engine.target import (
    COMMON_TARGET_FIELDS,
    Dependencies,
    DictStringToStringField,
    IntField,
    InvalidFieldException,
    StringField,
    Target,
)
from pants.util.docutil import bin_name
from pants.util.strutil import help_text

from pants_unikernel.address_fields import ImageAddressField
from pants_unikernel.package_types import PackagedOutputPathField


class DeploymentDependenciesField(Dependencies):
    pass


class DeploymentImageField(ImageAddressField):
    target_alias = "unikernel_deployment"
    help = help_text(
        """
        The address of the `unikernel_image` to deploy. Its `formats` have `oci`, for a unikernel, or `container`, or both.

        Example: `image=":unikernel"`
        """
    )


class DeploymentAsField(StringField):
    alias = "deploy_as"
    valid_choices = ("container", "unikernel", "virtual-machine")
    help = help_text(
        """
        What is deployed: the container, the unikernel by the runtime class `urunc`, or the unikernel as a virtual machine of KubeVirt.
        Manifests for all of them are written; this one is in `kustomization.yaml`. Without it: the first of these that there is.

        A service moves when this one line changes.
        """
    )


class DeploymentReplicasField(IntField):
    alias = "replicas"
    default = 1
    value: int
    help = "How many there are of it."

    @classmethod
    def compute_value(cls, raw_value: Optional[int], address: Address) -> int:
        value = super().compute_value(raw_value, address)
        if value is None or value < 1:
            raise InvalidFieldException(f"The `{cls.alias}` field in target {address} is not valid: {value} is not 1 or more.")
        return value


class DeploymentNamespaceField(StringField):
    alias = "namespace"
    help = "The namespace. Without it, that of whoever applies the manifests."


class DeploymentLabelsField(DictStringToStringField):
    alias = "labels"
    help = help_text(
        """
        Labels of all that is deployed.

        Example: `labels={"team": "web"}`
        """
    )


class DeploymentServiceAccountField(StringField):
    alias = "service_account"
    help = "The service account that it runs as. Without it, the namespace's default."


class DeploymentRuntimeClassField(StringField):
    alias = "runtime_class"
    default = "urunc"
    value: str
    help = "What the cluster calls the runtime class of unikernels."


class DeploymentRegistryField(StringField):
    alias = "registry"
    help = help_text(
        """
        The registry that the cluster pulls from, one of the image's: an address, or an alias with `@`. Without it: the first of them.
        """
    )


class DeploymentOutputPathField(PackagedOutputPathField):
    help = help_text(
        f"""
        The directory that the manifests are written to. Without it: the path to the BUILD file, then the target name.

        When running `{bin_name()} package`, this path will be prefixed by `--distdir` (e.g. `dist/`).
        """
    )


class UnikernelDeploymentTarget(Target):
    alias = "unikernel_deployment"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        DeploymentDependenciesField,
        DeploymentImageField,
        DeploymentAsField,
        DeploymentReplicasField,
        DeploymentNamespaceField,
        DeploymentLabelsField,
        DeploymentServiceAccountField,
        DeploymentRuntimeClassField,
        DeploymentRegistryField,
        DeploymentOutputPathField,
    )
    help = help_text(
        f"""
        A service in a Kubernetes cluster, as a container or as a unikernel: `{bin_name()} package` writes its manifests, which name images by
        digest, and `{bin_name()} experimental-deploy` publishes the images and applies the manifests.

        Example:

            unikernel_image(name="unikernel", app=":server", ports=["8080"], formats=["elf", "container", "oci"])

            unikernel_deployment(name="deploy", image=":unikernel", deploy_as="unikernel", replicas=2)
        """
    )


def target_types() -> Iterable[type[Target]]:
    return (UnikernelDeploymentTarget,)
