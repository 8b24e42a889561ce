"""`package` for `cc_binary`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact
from pants.core.goals.run import RunFieldSet, RunInSandboxBehavior
from pants.core.util_rules.environments import EnvironmentField
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.compile import CompileOptions, compile_objects, data_sources_request
from pants_unikernel.cc.link import LinkOptions, link_binary
from pants_unikernel.cc.target_types import (
    CCBinaryCCompileFlagsField,
    CCBinaryCompileFlagsField,
    CCBinaryCXXCompileFlagsField,
    CCBinaryDefinitionsField,
    CCBinaryDependenciesField,
    CCBinaryLibrariesField,
    CCBinaryLinkField,
    CCBinaryLinkFlagsField,
    CCBinaryOutputPathField,
    CCBinaryTarget,
    LinkMode,
)
from pants_unikernel.cc.toolchain import HostCCToolchain
from pants_unikernel.package_types import OwnPackage, OwnPackageFieldSet


class NoTranslationUnitsError(Exception):
    """A `cc_binary` has nothing to compile."""


@dataclass(frozen=True)
class CCBinaryFieldSet(OwnPackageFieldSet, RunFieldSet):
    required_fields = (CCBinaryDependenciesField, CCBinaryLinkField)
    run_in_sandbox_behavior = RunInSandboxBehavior.RUN_REQUEST_HERMETIC

    dependencies: CCBinaryDependenciesField
    link: CCBinaryLinkField
    compile_flags: CCBinaryCompileFlagsField
    c_compile_flags: CCBinaryCCompileFlagsField
    cxx_compile_flags: CCBinaryCXXCompileFlagsField
    definitions: CCBinaryDefinitionsField
    link_flags: CCBinaryLinkFlagsField
    libraries: CCBinaryLibrariesField
    output_path: CCBinaryOutputPathField
    environment: EnvironmentField

    @property
    def compile_options(self) -> CompileOptions:
        return CompileOptions(
            flags=(
                *(self.compile_flags.value or ()),
                *(f"-D{definition}" for definition in self.definitions.value or ()),
            ),
            c_flags=self.c_compile_flags.value or (),
            cxx_flags=self.cxx_compile_flags.value or (),
        )

    @property
    def link_options(self) -> LinkOptions:
        return LinkOptions(flags=self.link_flags.value or (), libraries=self.libraries.value or ())


@rule(desc="Build a C or C++ binary", level=LogLevel.DEBUG)
async def package_cc_binary(field_set: CCBinaryFieldSet, host: HostCCToolchain) -> OwnPackage:
    address = str(field_set.address)
    transitive = await engine.transitive_targets([field_set.address])
    toolchain = host.toolchain.for_link_mode(LinkMode(field_set.link.value))
    objects = await compile_objects(transitive.dependencies, toolchain, field_set.compile_options, needed_by=address)
    if not objects.units:
        raise NoTranslationUnitsError(
            f"The `{CCBinaryTarget.alias}` target {address} has no C or C++ source in its transitive dependencies: add "
            f"the `cc_source` or `cc_sources` targets of its code to its `{CCBinaryDependenciesField.alias}` field."
        )
    data = await engine.source_files(data_sources_request(transitive.dependencies))
    binary = await link_binary(
        objects,
        toolchain,
        field_set.link_options,
        output_path=field_set.output_path.value_or_default(file_ending=None),
        needed_by=address,
        input_digest=data.snapshot.digest,
    )
    return OwnPackage(BuiltPackage(binary.digest, (BuiltPackageArtifact(binary.path),)))


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(OwnPackageFieldSet, CCBinaryFieldSet))
