"""`package` for `unikernel_image`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from pants.backend.docker.subsystems.docker_options import DockerOptions
from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact
from pants.engine.fs import EMPTY_DIGEST, Digest
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import AllTargets
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.dist_files import DistImage, DistPackage, DistPath
from pants_unikernel.image_types import (
    BuiltImage,
    BuiltLayout,
    ContainerRequest,
    OciPackageRequest,
    UnikernelImageFieldSet,
)
from pants_unikernel.package_types import OwnPackage, OwnPackageFieldSet
from pants_unikernel.subsystems.images import MissingTools, UnikernelImages
from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.target_types import LAYOUT_FORMATS
from pants_unikernel.util_rules import (
    container,
    destinations,
    embedded_image,
    library_os,
    linked_image,
    oci_package,
    packed_image,
    rootfs,
    signing,
)
from pants_unikernel.util_rules.container import check_container
from pants_unikernel.util_rules.debug_file import check_debug_file, debug_file_of
from pants_unikernel.util_rules.destinations import find_destinations
from pants_unikernel.util_rules.failures import MissingToolsError, UnikernelBuildError
from pants_unikernel.util_rules.hypervisor_configs import check_hypervisors, hypervisor_configs_of
from pants_unikernel.util_rules.image import build_image
from pants_unikernel.util_rules.library_os import LibraryOsTargets
from pants_unikernel.util_rules.signing import (
    ImageSigner,
    basis_of,
    container_predicates,
    package_predicates,
    previous_signatures,
    sign,
    sign_layout,
    statement_of,
)
from unikernel.hypervisors import HYPERVISORS
from unikernel.oci.layout import Descriptor
from unikernel.signing.files import paths_beside, signatures_path

# What is written beside an image, by its ending.
_BESIDE = {
    *(".container", ".debug", ".json", ".kraftkit", ".oci"),
    *(os.path.splitext(about.ending)[1] for about in HYPERVISORS.values()),
}


@dataclass(frozen=True)
class BuiltUnikernelImage(BuiltPackageArtifact):
    """The image among the artifacts of a package. `key` is the fingerprint of the one that signed it, if it is signed."""

    sha256: str = ""
    size: int = 0
    key: str = ""


@dataclass(frozen=True)
class BuiltOciLayout(BuiltPackageArtifact):
    """An OCI layout among the artifacts of a package, at `path`.

    `relpath` is None where the log does not list it. `format` and `image` are as in `BuiltLayout`;
    `signatures` is the path of the layout with its signatures, if it is signed.
    """

    path: str = ""
    format: str = ""
    image: Optional[Descriptor] = None
    signatures: str = ""


@dataclass(frozen=True)
class SkippedImage(BuiltPackageArtifact):
    """The only artifact of an image that was not packaged, as [unikernel-images].missing_tools says. No file."""

    reason: str = ""


def image_of(package: BuiltPackage) -> BuiltUnikernelImage:
    """Return the image in a package; raise UnikernelBuildError where it was skipped."""
    for artifact in package.artifacts:
        if isinstance(artifact, SkippedImage):
            raise UnikernelBuildError(artifact.reason)
        if isinstance(artifact, BuiltUnikernelImage):
            return artifact
    raise AssertionError("A package of a unikernel image has an image.")


def layouts_of(package: BuiltPackage) -> list[BuiltOciLayout]:
    return [item for item in package.artifacts if isinstance(item, BuiltOciLayout)]


@dataclass(frozen=True)
class DeclaredOutputPaths:
    """The images by the `output_path` that they declare, without its ending: what is written beside an image has others."""

    addresses: FrozenDict[str, tuple[str, ...]]

    def check(self, field_set: UnikernelImageFieldSet) -> None:
        """Raises UnikernelBuildError when another image is written to the same path, as with `parametrize`, or what is beside this one."""
        path = field_set.output_path.value
        if not path:
            return
        name, ending = os.path.splitext(path)
        if ending in _BESIDE:
            raise UnikernelBuildError(
                f"{field_set.address}: the `{field_set.output_path.alias}` field is {path!r}, where what is beside the image is written: end "
                f"it with another word than {ending}, such as .elf."
            )
        addresses = self.addresses.get(name, ())
        if len(addresses) > 1:
            raise UnikernelBuildError(
                f"{' and '.join(addresses)} {'both' if len(addresses) == 2 else 'all'} are written to {path}: give each its own "
                f"`{field_set.output_path.alias}`, or leave it out."
            )


@rule(desc="Find where images are written to", level=LogLevel.DEBUG)
async def find_declared_output_paths(all_targets: AllTargets) -> DeclaredOutputPaths:
    addresses: dict[str, list[str]] = {}
    for target in all_targets:
        if UnikernelImageFieldSet.is_applicable(target):
            path = UnikernelImageFieldSet.create(target).output_path.value
            if path:
                addresses.setdefault(os.path.splitext(path)[0], []).append(str(target.address))
    return DeclaredOutputPaths(FrozenDict({path: tuple(sorted(found)) for path, found in addresses.items()}))


def _facts(size: int, sha256: str) -> str:
    text = f"{size / 10**6:.1f} MB" if size >= 10**6 else f"{size / 10**3:.1f} kB"
    return f"{text}, SHA-256 {sha256}"


async def _build_layouts(field_set: UnikernelImageFieldSet, image: BuiltImage) -> list[BuiltLayout]:
    """The OCI layouts that the target asks for."""
    layouts: list[BuiltLayout] = []
    if "oci" in field_set.formats.value:
        layouts += await engine.build_oci_package(OciPackageRequest(field_set, image))
    if "container" in field_set.formats.value:
        layouts.append(await engine.build_container(ContainerRequest(field_set)))
    return layouts


@rule(desc="Package a unikernel image", level=LogLevel.DEBUG)
async def package_unikernel_image(
    field_set: UnikernelImageFieldSet,
    signer: ImageSigner,
    library_oses: LibraryOsTargets,
    output_paths: DeclaredOutputPaths,
    docker: DockerOptions,
    linux: UnikernelLinux,
    options: UnikernelImages,
) -> OwnPackage:
    output_paths.check(field_set)
    if "container" in field_set.formats.value:
        await check_container(field_set, library_oses)
    if "debug" in field_set.formats.value:
        await check_debug_file(field_set, library_oses)
    await check_hypervisors(field_set, library_oses, linux)
    found = await find_destinations(field_set, docker) if set(field_set.formats.value) & set(LAYOUT_FORMATS) else []
    try:
        image = await build_image(field_set, library_oses)
    except MissingToolsError as error:
        if options.missing_tools is not MissingTools.SKIP:
            raise
        return _skipped(error)
    # Not a parameter: the image's rule looks at this machine while the toolkit is set up.
    toolkit = await engine.find_toolkit()
    layouts = await _build_layouts(field_set, image)
    configs = await hypervisor_configs_of(field_set, image, library_oses, toolkit)
    digests, is_signed = [image.digest, *(layout.digest for layout in layouts), configs.digest], signer.signer is not None
    basis = basis_of(field_set, image, signer, toolkit) if is_signed else ""
    if is_signed:
        vouching = await previous_signatures(field_set, image, basis, signer)
        if vouching is None or layouts:
            statement = await statement_of(field_set, image, signer)
        digests.append(await sign(field_set, image, statement, signer) if vouching is None else vouching)
        repositories = [destination.repository for destination in found]
        for layout in layouts:
            predicates = container_predicates(statement) if layout.format == "container" else package_predicates(statement, image)
            digests.append(await sign_layout(field_set, layout, repositories, predicates, signer))
    beside: list[BuiltPackageArtifact] = []
    for layout in layouts:
        signatures = signatures_path(layout.path) if is_signed else ""
        lines = (f"  {layout.image.digest}",)
        beside.append(BuiltOciLayout(layout.path, lines, layout.path, layout.format, layout.image, signatures))
        beside += [BuiltPackageArtifact(path) for path in (layout.archive, signatures) if path]
    if "debug" in field_set.formats.value:
        debug = await debug_file_of(field_set, image, toolkit)
        digests.append(debug.digest)
        beside.append(BuiltPackageArtifact(debug.path, (f"  {_facts(debug.size, debug.sha256)}",)))
    beside += [BuiltPackageArtifact(path) for path in configs.paths]
    documents = paths_beside(image.path, signed=is_signed)
    key = f"the {'development ' if signer.is_development else ''}key {signer.fingerprint}" if is_signed else ""
    built = BuiltUnikernelImage(image.path, sha256=image.sha256, size=image.size, key=signer.fingerprint)
    package = _Package(str(field_set.address), await engine.merge_digests(digests), basis, key, bool(field_set.ports.value))
    return package.of(built, beside, documents, lists_files=options.list_files)


def _skipped(error: MissingToolsError) -> OwnPackage:
    reason = str(error)
    return OwnPackage(BuiltPackage(EMPTY_DIGEST, (SkippedImage(None, (f"Not packaged: {reason}",), reason),)))


@dataclass(frozen=True)
class _Package:
    """An image's package before its artifacts are listed. `key` names the key that signed it, if one did."""

    target: str
    digest: Digest
    basis: str
    key: str
    is_server: bool

    def of(
        self,
        image: BuiltUnikernelImage,
        beside: Sequence[BuiltPackageArtifact],
        documents: Sequence[str],
        *,
        lists_files: bool,
    ) -> OwnPackage:
        """Return the package with one entry of the log for the target, or one for each file with `lists_files`."""
        facts = _facts(image.size, image.sha256) + (f", signed by {self.key}" if self.key else ", unsigned")
        lines = [f"  {facts}"]
        if lists_files:
            lines.append(f"  beside it: {', '.join(os.path.basename(path) for path in documents)}")
        else:
            documents = (*documents, *(item.relpath for item in beside if item.relpath))
            beside = [replace(item, relpath=None, extra_log_lines=()) for item in beside]
        dist_image = DistImage(self.key, self.is_server)
        package = DistPackage(self.target, self.digest, tuple(documents), self.basis, dist_image)
        artifacts = [replace(image, extra_log_lines=tuple(lines)), *beside]
        return OwnPackage(
            BuiltPackage(
                self.digest,
                tuple(replace(item, relpath=DistPath(item.relpath, package)) if item.relpath else item for item in artifacts),
            )
        )


def rules() -> Iterable[Rule | UnionRule]:
    return (
        *collect_rules(),
        *container.rules(),
        *destinations.rules(),
        *embedded_image.rules(),
        *engine.rules(),
        *library_os.rules(),
        *linked_image.rules(),
        *oci_package.rules(),
        *packed_image.rules(),
        *rootfs.rules(),
        *signing.rules(),
        UnionRule(OwnPackageFieldSet, UnikernelImageFieldSet),
    )
