"""`package` for `unikernel_image`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pants.backend.python.subsystems.setup import PythonSetup
from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact, PackageFieldSet
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.subsystems.toolkit import Toolkit
from pants_unikernel.util_rules.image import UnikernelImageFieldSet, UnikernelTools, build_image
from pants_unikernel.util_rules.toolchain import InitToolchain, KernelToolchain, LinkToolchain


@dataclass(frozen=True)
class BuiltUnikernelImage(BuiltPackageArtifact):
    """The image among the artifacts of a package."""

    sha256: str = ""
    size: int = 0


@rule(desc="Package a unikernel image", level=LogLevel.DEBUG)
async def package_unikernel_image(
    field_set: UnikernelImageFieldSet,
    linux: UnikernelLinux,
    toolkit: Toolkit,
    python_setup: PythonSetup,
    link_toolchain: LinkToolchain,
    kernel_toolchain: KernelToolchain,
    init_toolchain: InitToolchain,
) -> BuiltPackage:
    tools = UnikernelTools(linux, toolkit, python_setup, link_toolchain, kernel_toolchain, init_toolchain)
    image = await build_image(field_set, tools)
    artifact = BuiltUnikernelImage(
        image.path,
        (f"  {image.size / 10**6:.1f} MB, SHA-256 {image.sha256}",),
        sha256=image.sha256,
        size=image.size,
    )
    return BuiltPackage(image.digest, (artifact, BuiltPackageArtifact(image.manifest_path)))


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(PackageFieldSet, UnikernelImageFieldSet))
