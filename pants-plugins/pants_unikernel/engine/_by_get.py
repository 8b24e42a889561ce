"""The engine's calls by `Get`: Pants 2.17 to 2.31. One helper an edge; fan-out happens inside the helpers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

from pants.backend.python.util_rules.interpreter_constraints import InterpreterConstraints
from pants.backend.python.util_rules.pex import Pex, PexRequest, VenvPex, VenvPexProcess
from pants.backend.python.util_rules.pex_environment import PythonExecutable
from pants.backend.python.util_rules.pex_from_targets import RequirementsPexRequest
from pants.backend.python.util_rules.python_sources import PythonSourceFilesRequest, StrippedPythonSourceFiles
from pants.base.specs import Specs
from pants.core.goals.package import BuiltPackage, EnvironmentAwarePackageRequest, PackageFieldSet
from pants.core.util_rules.config_files import ConfigFiles, ConfigFilesRequest
from pants.core.util_rules.source_files import SourceFiles, SourceFilesRequest
from pants.core.util_rules.stripped_source_files import StrippedSourceFiles
from pants.core.util_rules.system_binaries import BinaryPathRequest, BinaryPaths
from pants.engine.addresses import Address, Addresses, UnparsedAddressInputs
from pants.engine.env_vars import EnvironmentVars, EnvironmentVarsRequest
from pants.engine.fs import (
    AddPrefix,
    CreateDigest,
    Digest,
    DigestContents,
    DigestEntries,
    DigestSubset,
    Directory,
    DownloadFile,
    FileContent,
    FileDigest,
    FileEntry,
    MergeDigests,
    PathGlobs,
    RemovePrefix,
    Snapshot,
)
from pants.engine.process import FallibleProcessResult, InteractiveProcess, InteractiveProcessResult, Process, ProcessResult
from pants.engine.rules import Effect, Get, MultiGet, QueryRule, _uncacheable_rule
from pants.engine.target import (
    FieldSetsPerTarget,
    FieldSetsPerTargetRequest,
    FilteredTargets,
    HydratedSources,
    HydrateSourcesRequest,
    Target,
    Targets,
    TransitiveTargets,
    TransitiveTargetsRequest,
    WrappedTarget,
    WrappedTargetRequest,
)
from pants.option.global_options import NamedCachesDirOption
from pants.source.source_root import SourceRootsRequest, SourceRootsResult

from pants_unikernel.deployment_types import BuiltDeployment, UnikernelDeploymentFieldSet
from pants_unikernel.engine import _write_dist
from pants_unikernel.engine._collection_hash import tell_requests_apart
from pants_unikernel.engine._remote_cache import ask_remote_cache_first
from pants_unikernel.image_types import (
    BuiltImage,
    BuiltLayout,
    BuiltLayouts,
    ContainerRequest,
    EmbeddedImageRequest,
    ExportedKit,
    KitExportRequest,
    KitExportRequestBase,
    LinkedImageRequest,
    LinuxParts,
    LinuxPartsRequest,
    OciPackageRequest,
    PackedImageRequest,
    RootfsLayer,
    Service,
    ServiceRequest,
    ServiceRequestBase,
    Toolkit,
    Verification,
    VerificationRequest,
    VerificationRequestBase,
)
from pants_unikernel.linux_types import LinuxMaterials, LinuxSupply
from pants_unikernel.package_types import OwnPackage, OwnPackageFieldSet
from pants_unikernel.service_types import (
    Candidate,
    CandidateRequest,
    ReadDockerfile,
    ReadDockerfileRequest,
    SourceSigns,
    SourceSignsRequest,
)
from unikernel.rootfs.layer import LayerIndex

# Of targets that are there: with Pants' own word for it, it is asked for what Pants has found already.
_ORIGIN = "<infallible>"
# Its name says that it may change: only here.
uncacheable_rule = _uncacheable_rule


def rules() -> Iterable[QueryRule]:
    """What the engine must know to answer what is asked from outside of rules. For a backend that builds images: where there may be thousands, Pants itself
    has to do some things otherwise. All others leave it as it is.
    """
    tell_requests_apart()
    _write_dist.write_only_what_changed()
    return _write_dist.rules()


# --- file systems -------------------------------------------------------------------------------------------------


async def create_digest(entries: Iterable[FileContent | FileEntry | Directory]) -> Digest:
    return await Get(Digest, CreateDigest(entries))


async def merge_digests(digests: Iterable[Digest]) -> Digest:
    return await Get(Digest, MergeDigests(digests))


async def add_prefix(digest: Digest, prefix: str) -> Digest:
    return await Get(Digest, AddPrefix(digest, prefix))


async def remove_prefix(digest: Digest, prefix: str) -> Digest:
    return await Get(Digest, RemovePrefix(digest, prefix))


async def file_content(digest: Digest, path: str) -> bytes:
    """The content of one file of a digest."""
    (content,) = (await file_contents(digest, [path])).values()
    return content


async def file_contents(digest: Digest, paths: Iterable[str]) -> dict[str, bytes]:
    """Those of some files of a digest, by path: the others, which may be large, are not read."""
    return {file.path: file.content for file in await Get(DigestContents, Digest, await part_of(digest, paths))}


async def part_of(digest: Digest, paths: Iterable[str]) -> Digest:
    """The files and directories (`DIRECTORY/**`) of a digest that match one of the paths."""
    return await Get(Digest, DigestSubset(digest, PathGlobs(paths)))


async def digest_entries(digest: Digest) -> DigestEntries:
    return await Get(DigestEntries, Digest, digest)


async def file_digest(digest: Digest, path: str) -> FileDigest:
    """The digest of one file of a digest, without reading it."""
    entries = await digest_entries(digest)
    return next(entry.file_digest for entry in entries if isinstance(entry, FileEntry) and entry.path == path)


async def snapshot(digest: Digest) -> Snapshot:
    return await Get(Snapshot, Digest, digest)


async def find_config_files(request: ConfigFilesRequest) -> ConfigFiles:
    return await Get(ConfigFiles, ConfigFilesRequest, request)


async def download_file(request: DownloadFile) -> Digest:
    return await Get(Digest, DownloadFile, request)


# --- processes and tools ------------------------------------------------------------------------------------------


async def run_process(process: Process) -> ProcessResult:
    return await Get(ProcessResult, Process, ask_remote_cache_first(process))


async def run_fallible_process(process: Process) -> FallibleProcessResult:
    return await Get(FallibleProcessResult, Process, ask_remote_cache_first(process))


async def run_fallible_processes(processes: Iterable[Process]) -> tuple[FallibleProcessResult, ...]:
    return await MultiGet(Get(FallibleProcessResult, Process, ask_remote_cache_first(process)) for process in processes)


async def run_in_foreground(process: Process) -> InteractiveProcessResult:
    """With the user's terminal. Only for goals."""
    return await Effect(InteractiveProcessResult, InteractiveProcess, InteractiveProcess.from_process(process))


async def named_caches_directory() -> PurePath:
    """Return the directory on this machine with the append-only caches of local processes, by their names."""
    return (await Get(NamedCachesDirOption)).val


async def find_binaries(requests: Iterable[BinaryPathRequest]) -> tuple[BinaryPaths, ...]:
    return await MultiGet(Get(BinaryPaths, BinaryPathRequest, request) for request in requests)


async def environment_variables(request: EnvironmentVarsRequest) -> EnvironmentVars:
    return await Get(EnvironmentVars, EnvironmentVarsRequest, request)


async def build_pex(request: PexRequest) -> Pex:
    return await Get(Pex, PexRequest, request)


async def build_requirements_pex(request: RequirementsPexRequest) -> Pex:
    """Of all third-party requirements of some targets."""
    return await Get(Pex, RequirementsPexRequest, request)


async def build_venv_pex(request: PexRequest) -> VenvPex:
    return await Get(VenvPex, PexRequest, request)


async def venv_pex_process(request: VenvPexProcess) -> Process:
    return await Get(Process, VenvPexProcess, request)


async def find_interpreter(constraints: InterpreterConstraints) -> PythonExecutable:
    return await Get(PythonExecutable, InterpreterConstraints, constraints)


async def find_toolkit() -> Toolkit:
    return await Get(Toolkit)


# --- images -------------------------------------------------------------------------------------------------------


async def build_embedded_image(request: EmbeddedImageRequest) -> BuiltImage:
    return await Get(BuiltImage, EmbeddedImageRequest, request)


async def build_linux_parts(request: LinuxPartsRequest) -> LinuxParts:
    return await Get(LinuxParts, LinuxPartsRequest, request)


async def find_linux_materials() -> LinuxMaterials:
    return await Get(LinuxMaterials)


async def find_linux_supply(request: LinuxPartsRequest) -> LinuxSupply:
    return await Get(LinuxSupply, LinuxPartsRequest, request)


async def find_toolkit_and_linux(request: LinuxPartsRequest) -> Toolkit:
    """The toolkit. While it is set up, what Linux is made of is looked for."""
    toolkit, _ = await MultiGet(Get(Toolkit), Get(LinuxSupply, LinuxPartsRequest, request))
    return toolkit


async def export_kits(requests: Iterable[KitExportRequest]) -> tuple[ExportedKit, ...]:
    return await MultiGet(Get(ExportedKit, KitExportRequestBase, request) for request in requests)


async def read_layer_indexes(layers: Iterable[RootfsLayer]) -> tuple[LayerIndex, ...]:
    return await MultiGet(Get(LayerIndex, RootfsLayer, layer) for layer in layers)


async def build_linked_image(request: LinkedImageRequest) -> BuiltImage:
    return await Get(BuiltImage, LinkedImageRequest, request)


async def build_packed_image(request: PackedImageRequest) -> BuiltImage:
    return await Get(BuiltImage, PackedImageRequest, request)


async def build_container(request: ContainerRequest) -> BuiltLayout:
    return await Get(BuiltLayout, ContainerRequest, request)


async def build_oci_package(request: OciPackageRequest) -> BuiltLayouts:
    return await Get(BuiltLayouts, OciPackageRequest, request)


async def build_deployment(field_set: UnikernelDeploymentFieldSet) -> BuiltDeployment:
    return await Get(BuiltDeployment, UnikernelDeploymentFieldSet, field_set)


async def analyse_services(requests: Iterable[ServiceRequest]) -> tuple[Service, ...]:
    return await MultiGet(Get(Service, ServiceRequestBase, request) for request in requests)


async def find_candidates(requests: Iterable[CandidateRequest]) -> tuple[Candidate, ...]:
    return await MultiGet(Get(Candidate, CandidateRequest, request) for request in requests)


async def source_signs(requests: Iterable[SourceSignsRequest]) -> tuple[SourceSigns, ...]:
    return await MultiGet(Get(SourceSigns, SourceSignsRequest, request) for request in requests)


async def read_dockerfiles(requests: Iterable[ReadDockerfileRequest]) -> tuple[ReadDockerfile, ...]:
    return await MultiGet(Get(ReadDockerfile, ReadDockerfileRequest, request) for request in requests)


async def prepare_verification(request: VerificationRequest) -> Verification:
    return await Get(Verification, VerificationRequestBase, request)


# --- targets ------------------------------------------------------------------------------------------------------


async def parse_addresses(inputs: UnparsedAddressInputs) -> Addresses:
    return await Get(Addresses, UnparsedAddressInputs, inputs)


async def find_targets(inputs: UnparsedAddressInputs) -> Targets:
    return await Get(Targets, UnparsedAddressInputs, inputs)


async def find_target(address: Address) -> Target:
    return (await Get(WrappedTarget, WrappedTargetRequest(address, _ORIGIN))).target


async def targets_of_specs(specs: Specs) -> FilteredTargets:
    """The targets that a user named, with the global filters applied."""
    return await Get(FilteredTargets, Specs, specs)


async def transitive_targets(addresses: Iterable[Address], *, include_special_cased_deps: bool = False) -> TransitiveTargets:
    return await Get(
        TransitiveTargets,
        TransitiveTargetsRequest(addresses, include_special_cased_deps=include_special_cased_deps),
    )


async def transitive_targets_of_each(addresses: Iterable[Address]) -> tuple[TransitiveTargets, ...]:
    return await MultiGet(Get(TransitiveTargets, TransitiveTargetsRequest([address])) for address in addresses)


async def packageable_field_sets(targets: Iterable[Target]) -> FieldSetsPerTarget[PackageFieldSet]:
    return await Get(FieldSetsPerTarget, FieldSetsPerTargetRequest(PackageFieldSet, targets))


async def package_all(field_sets: Iterable[PackageFieldSet]) -> tuple[BuiltPackage, ...]:
    return await MultiGet(Get(BuiltPackage, EnvironmentAwarePackageRequest(field_set)) for field_set in field_sets)


async def package_target(address: Address) -> BuiltPackage:
    """As `pants package` does it."""
    field_sets = await packageable_field_sets([await find_target(address)])
    (package,) = await package_all(field_sets.field_sets)
    return package


async def package_own(field_set: OwnPackageFieldSet) -> BuiltPackage:
    return (await Get(OwnPackage, OwnPackageFieldSet, field_set)).built


async def hydrate_sources(request: HydrateSourcesRequest) -> HydratedSources:
    return await Get(HydratedSources, HydrateSourcesRequest, request)


async def hydrate_all_sources(requests: Iterable[HydrateSourcesRequest]) -> tuple[HydratedSources, ...]:
    return await MultiGet(Get(HydratedSources, HydrateSourcesRequest, request) for request in requests)


async def source_files(request: SourceFilesRequest) -> SourceFiles:
    return await Get(SourceFiles, SourceFilesRequest, request)


async def source_files_of_each(requests: Iterable[SourceFilesRequest]) -> tuple[SourceFiles, ...]:
    return await MultiGet(Get(SourceFiles, SourceFilesRequest, request) for request in requests)


async def source_roots(request: SourceRootsRequest) -> SourceRootsResult:
    return await Get(SourceRootsResult, SourceRootsRequest, request)


async def stripped_source_files(request: SourceFilesRequest) -> StrippedSourceFiles:
    return await Get(StrippedSourceFiles, SourceFilesRequest, request)


async def stripped_python_sources(request: PythonSourceFilesRequest) -> StrippedSourceFiles:
    return (await Get(StrippedPythonSourceFiles, PythonSourceFilesRequest, request)).stripped_source_files
