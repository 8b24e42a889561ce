"""What rules about images hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

from pants.core.goals.package import PackageFieldSet
from pants.core.goals.run import RunFieldSet, RunInSandboxBehavior
from pants.engine.fs import Digest

from pants_unikernel.target_types import (
    UnikernelImageAddressField,
    UnikernelImageAppField,
    UnikernelImageArgsField,
    UnikernelImageCpusField,
    UnikernelImageEnvField,
    UnikernelImageExecutableField,
    UnikernelImageFilesField,
    UnikernelImageGatewayField,
    UnikernelImageHostnameField,
    UnikernelImageKernelConfigField,
    UnikernelImageKernelParametersField,
    UnikernelImageLibraryOsField,
    UnikernelImageMemoryField,
    UnikernelImageNameserversField,
    UnikernelImageNetworkField,
    UnikernelImageOutputPathField,
    UnikernelImagePortsField,
    UnikernelImageTimezoneField,
    UnikernelImageWorkingDirectoryField,
)
from unikernel.signing.provenance import Artifact


@dataclass(frozen=True)
class UnikernelImageFieldSet(PackageFieldSet, RunFieldSet):
    required_fields = (UnikernelImageAppField,)
    run_in_sandbox_behavior = RunInSandboxBehavior.NOT_SUPPORTED

    app: UnikernelImageAppField
    executable: UnikernelImageExecutableField
    library_os: UnikernelImageLibraryOsField
    args: UnikernelImageArgsField
    env: UnikernelImageEnvField
    working_directory: UnikernelImageWorkingDirectoryField
    files: UnikernelImageFilesField
    timezone: UnikernelImageTimezoneField
    memory: UnikernelImageMemoryField
    cpus: UnikernelImageCpusField
    network: UnikernelImageNetworkField
    ip_address: UnikernelImageAddressField
    gateway: UnikernelImageGatewayField
    nameservers: UnikernelImageNameserversField
    hostname: UnikernelImageHostnameField
    ports: UnikernelImagePortsField
    kernel_config: UnikernelImageKernelConfigField
    kernel_parameters: UnikernelImageKernelParametersField
    output_path: UnikernelImageOutputPathField


@dataclass(frozen=True)
class BuiltImage:
    """`digest` holds the image at `path`, with its manifest and its SBOMs beside it; `sha256` (hex) and `size` are the image's. `inputs`
    are what its parts were made of: the manifest names only these parts.
    """

    digest: Digest
    path: str
    size: int
    sha256: str
    inputs: tuple[Artifact, ...]


@dataclass(frozen=True)
class EmbeddedImageRequest:
    """For an image whose root file system goes into a kernel that is compiled for it."""

    field_set: UnikernelImageFieldSet


@dataclass(frozen=True)
class LinkedImageRequest:
    """For an image whose program is linked with a library OS."""

    field_set: UnikernelImageFieldSet
