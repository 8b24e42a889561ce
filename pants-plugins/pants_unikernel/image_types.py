"""What rules about images hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from pants.core.goals.run import RunFieldSet, RunInSandboxBehavior
from pants.engine.addresses import Address
from pants.engine.collection import Collection
from pants.engine.environment import EnvironmentName
from pants.engine.fs import Digest
from pants.engine.process import Process
from pants.engine.unions import union
from pants.util.frozendict import FrozenDict

from pants_unikernel.package_types import OwnPackageFieldSet
from pants_unikernel.target_types import (
    UnikernelImageAppField,
    UnikernelImageArgsField,
    UnikernelImageCpusField,
    UnikernelImageDoesWithoutField,
    UnikernelImageEnvField,
    UnikernelImageExecutableField,
    UnikernelImageFilesField,
    UnikernelImageFormatsField,
    UnikernelImageGatewayField,
    UnikernelImageHostnameField,
    UnikernelImageIpAddressField,
    UnikernelImageKernelConfigField,
    UnikernelImageKernelParametersField,
    UnikernelImageLabelsField,
    UnikernelImageLibraryOsField,
    UnikernelImageMemoryField,
    UnikernelImageNameserversField,
    UnikernelImageNetworkField,
    UnikernelImageOutputPathField,
    UnikernelImagePortsField,
    UnikernelImageRegistriesField,
    UnikernelImageRepositoryField,
    UnikernelImageTagsField,
    UnikernelImageTimezoneField,
    UnikernelImageUserField,
    UnikernelImageWorkingDirectoryField,
)
from unikernel.library_os.requirements import Program
from unikernel.oci.layout import Descriptor
from unikernel.sbom.component import Component
from unikernel.signing.provenance import Artifact


@dataclass(frozen=True)
class UnikernelImageFieldSet(OwnPackageFieldSet, RunFieldSet):
    required_fields = (UnikernelImageAppField,)
    run_in_sandbox_behavior = RunInSandboxBehavior.NOT_SUPPORTED
    # Not of that protocol: what is waited for is gdb.
    supports_debug_adapter = True

    app: UnikernelImageAppField
    executable: UnikernelImageExecutableField
    library_os: UnikernelImageLibraryOsField
    does_without: UnikernelImageDoesWithoutField
    args: UnikernelImageArgsField
    env: UnikernelImageEnvField
    working_directory: UnikernelImageWorkingDirectoryField
    files: UnikernelImageFilesField
    timezone: UnikernelImageTimezoneField
    memory: UnikernelImageMemoryField
    cpus: UnikernelImageCpusField
    network: UnikernelImageNetworkField
    ip_address: UnikernelImageIpAddressField
    gateway: UnikernelImageGatewayField
    nameservers: UnikernelImageNameserversField
    hostname: UnikernelImageHostnameField
    ports: UnikernelImagePortsField
    kernel_config: UnikernelImageKernelConfigField
    kernel_parameters: UnikernelImageKernelParametersField
    formats: UnikernelImageFormatsField
    user: UnikernelImageUserField
    labels: UnikernelImageLabelsField
    registries: UnikernelImageRegistriesField
    repository: UnikernelImageRepositoryField
    image_tags: UnikernelImageTagsField
    output_path: UnikernelImageOutputPathField


@dataclass(frozen=True)
class RootfsLayer:
    """An archive `NAME.cpio` and its index `NAME.json` in one digest."""

    name: str
    digest: Digest

    @property
    def archive(self) -> str:
        return f"{self.name}.cpio"

    @property
    def index(self) -> str:
        return f"{self.name}.json"


@dataclass(frozen=True)
class DebugInputs:
    """What a debug file is made of: the toolkit's words, and inputs of its process, by the directories that they are in; "" is its own.

    They are not put together yet: most images need no debug file.
    """

    arguments: tuple[str, ...]
    inputs: tuple[tuple[str, Digest], ...]
    immutable_inputs: FrozenDict[str, Digest] = FrozenDict()
    environment: FrozenDict[str, str] = FrozenDict()


@dataclass(frozen=True)
class BuiltImage:
    """`digest` holds the image at `path`, with its manifest and its SBOMs beside it; `sha256` (hex) and `size` are the image's. `inputs`
    are what its parts were made of: the manifest names only these parts. `debug` is there where something has symbols.
    """

    digest: Digest
    path: str
    size: int
    sha256: str
    inputs: tuple[Artifact, ...]
    debug: Optional[DebugInputs] = None


@dataclass(frozen=True)
class BuiltDebugFile:
    """The file `path` in `digest`; `sha256` (hex) and `size` are its own."""

    digest: Digest
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ContainerRequest:
    """For a container image of what is in a unikernel image."""

    field_set: UnikernelImageFieldSet


@dataclass(frozen=True)
class BuiltLayout:
    """An OCI layout: the directory `path` in `digest`. `format` is the target's for it, or kraftkit; `image` (a manifest's descriptor) is
    what it has in it; `archive` is the path of the same for `docker load`, where there is one.
    """

    format: str
    digest: Digest
    path: str
    image: Descriptor
    archive: str = ""


class BuiltLayouts(Collection[BuiltLayout]):
    pass


@dataclass(frozen=True)
class OciPackageRequest:
    """For a package of a unikernel image for registries and container runtimes."""

    field_set: UnikernelImageFieldSet
    image: BuiltImage


@dataclass(frozen=True)
class Toolkit:
    """The toolkit, installed with its requirements into a virtual environment that Pants manages. `process` runs its interpreter, without
    arguments: what is common to all of its processes is asked for once.
    """

    process: Process


@dataclass(frozen=True)
class LinuxPartsRequest:
    """`kernel_options` are those on top of the base configuration, in one canonical form."""

    kernel_options: tuple[str, ...]


@dataclass(frozen=True)
class LinuxParts:
    """What all images of one kernel configuration are linked with: the kit and PID 1, and what they are for an SBOM."""

    kit: Digest
    init: Digest
    components: tuple[Component, ...]


# Pants solves its graph of rules at each start, and has all that can be reached in it once for each set of what is in scope: those of a
# goal would be a tenth more of the whole. What is asked for as a union has only what the union names, whoever asks.
@union(in_scope_types=[EnvironmentName])
class ServiceRequestBase:
    pass


@dataclass(frozen=True)
class ServiceRequest(ServiceRequestBase):
    """For what a service, which is packaged, asks of its operating system. `executable` names the program in an archive."""

    address: Address
    executable: Optional[str]


@dataclass(frozen=True)
class Service:
    """`alias` is its target's type. `program` is None where the service cannot be packaged or laid out; `problem` says why, and
    `is_packaged` which of both.
    """

    address: Address
    alias: str
    program: Optional[Program]
    problem: str = ""
    is_packaged: bool = True


@union(in_scope_types=[EnvironmentName])
class VerificationRequestBase:
    """As ServiceRequestBase."""


@dataclass(frozen=True)
class VerificationRequest(VerificationRequestBase):
    """For `unikernel verify` with these arguments; `keys` has the public keys among them that are no files."""

    arguments: tuple[str, ...]
    keys: Digest


@dataclass(frozen=True)
class Verification:
    process: Process


@dataclass(frozen=True)
class TestsInImage:
    """What an image of tests has otherwise than the image that they are for: `digest` has the layer "tests", which says what starts.
    `memory` is in bytes, if it is not the image's own; `environment` is merged over the image's.
    """

    digest: Digest
    memory: Optional[int]
    environment: FrozenDict[str, str]

    # Not for pytest to collect.
    __test__ = False


@dataclass(frozen=True)
class EmbeddedImageRequest:
    """For an image whose root file system goes into a kernel that is compiled for it."""

    field_set: UnikernelImageFieldSet
    tests: Optional[TestsInImage] = None


@dataclass(frozen=True)
class PackedImageRequest:
    """For an image whose root file system is packed with a library OS's kernel, or by its tool."""

    field_set: UnikernelImageFieldSet
    tests: Optional[TestsInImage] = None


@dataclass(frozen=True)
class LinkedImageRequest:
    """For an image whose program is linked with a library OS."""

    field_set: UnikernelImageFieldSet
