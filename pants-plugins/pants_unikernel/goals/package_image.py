"""`package` for `unikernel_image`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact, PackageFieldSet
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import AllTargets
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.image_types import ContainerRequest, UnikernelImageFieldSet
from pants_unikernel.util_rules import container, embedded_image, library_os, linked_image, packed_image, signing
from pants_unikernel.util_rules.container import check_container
from pants_unikernel.util_rules.failures import UnikernelBuildError
from pants_unikernel.util_rules.image import build_image
from pants_unikernel.util_rules.library_os import LibraryOsTargets
from pants_unikernel.util_rules.signing import ImageSigner, sign
from unikernel.signing.files import paths_beside


@dataclass(frozen=True)
class BuiltUnikernelImage(BuiltPackageArtifact):
    """The image among the artifacts of a package. `key` is the fingerprint of the one that signed it, if it is signed."""

    sha256: str = ""
    size: int = 0
    key: str = ""


@dataclass(frozen=True)
class DeclaredOutputPaths:
    """The images by the `output_path` that they declare."""

    addresses: FrozenDict[str, tuple[str, ...]]

    def check(self, field_set: UnikernelImageFieldSet) -> None:
        """Raises UnikernelBuildError when another image is written to the same path, as with `parametrize`."""
        path = field_set.output_path.value
        addresses = self.addresses.get(path, ()) if path else ()
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
                addresses.setdefault(path, []).append(str(target.address))
    return DeclaredOutputPaths(FrozenDict({path: tuple(sorted(found)) for path, found in addresses.items()}))


@rule(desc="Package a unikernel image", level=LogLevel.DEBUG)
async def package_unikernel_image(
    field_set: UnikernelImageFieldSet, signer: ImageSigner, library_oses: LibraryOsTargets, output_paths: DeclaredOutputPaths
) -> BuiltPackage:
    output_paths.check(field_set)
    has_container = "container" in field_set.formats.value
    if has_container:
        await check_container(field_set, library_oses)
    image = await build_image(field_set, library_oses)
    size = f"{image.size / 10**6:.1f} MB" if image.size >= 10**6 else f"{image.size / 10**3:.1f} kB"
    lines = [f"  {size}, SHA-256 {image.sha256}"]
    digest, is_signed = image.digest, signer.signer is not None
    if is_signed:
        digest = await engine.merge_digests([image.digest, await sign(field_set, image, signer)])
        lines.append(f"  signed by {'the development key' if signer.is_development else 'the key'} {signer.fingerprint}")
    containers = []
    if has_container:
        built = await engine.build_container(ContainerRequest(field_set))
        digest = await engine.merge_digests([digest, built.digest])
        containers = [BuiltPackageArtifact(built.layout), BuiltPackageArtifact(built.archive)]
    artifact = BuiltUnikernelImage(image.path, tuple(lines), sha256=image.sha256, size=image.size, key=signer.fingerprint)
    beside = (BuiltPackageArtifact(path) for path in paths_beside(image.path, signed=is_signed))
    return BuiltPackage(digest, (artifact, *beside, *containers))


def rules() -> Iterable[Rule | UnionRule]:
    return (
        *collect_rules(),
        *container.rules(),
        *embedded_image.rules(),
        *library_os.rules(),
        *linked_image.rules(),
        *packed_image.rules(),
        *signing.rules(),
        UnionRule(PackageFieldSet, UnikernelImageFieldSet),
    )
