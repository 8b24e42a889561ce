"""An image whose root file system is packed with a library OS's kernel, or by its tool: package, lay out, pack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pants.backend.cc.subsystems.compiler import CCSubsystem
from pants.backend.python.subsystems.setup import PythonSetup
from pants.core.util_rules.environments import EnvironmentTarget
from pants.engine.fs import Digest
from pants.engine.process import Process
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.toolchain import expand_search_paths
from pants_unikernel.image_types import BuiltImage, PackedImageRequest, Toolkit, UnikernelImageFieldSet
from pants_unikernel.linux_types import LinkToolchain
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.debug_file import artifact_path, rootfs_debug_inputs
from pants_unikernel.util_rules.failures import UnikernelBuildError, errors_of, run_step, run_steps
from pants_unikernel.util_rules.image import built_image, image_spec, spec_file
from pants_unikernel.util_rules.library_os import (
    FoundInputs,
    LibraryOsTargets,
    ResolvedLibraryOs,
    check_fields,
    find_inputs,
    resolve_library_os,
)
from pants_unikernel.util_rules.rootfs import package_app, place_layers, rootfs_layers
from pants_unikernel.util_rules.sbom import sbom_process
from unikernel import __version__
from unikernel.image.components import layer_inputs, listed_components
from unikernel.image.limits import MemoryNeeds, choose_memory
from unikernel.library_os.description import LibraryOs, Pack, RootfsForm
from unikernel.library_os.requirements import Program, Readiness, assess, unprovided
from unikernel.sbom.component import Component, ComponentKind
from unikernel.sbom.inventory import Inventory
from unikernel.signing.files import manifest_path


def _version(resolved: ResolvedLibraryOs) -> str:
    """The declared version, or one that changes with what was declared as inputs."""
    kernels = [f"{name} {file.sha256[:12]}" for name, file in resolved.inputs.items() if name == _kernel(resolved.description)]
    return resolved.version or "".join(kernels) or "unknown"


def _kernel(library_os: LibraryOs) -> str:
    assert isinstance(library_os.build, Pack)
    return library_os.build.kernel or "kernel"


def _components(resolved: ResolvedLibraryOs, version: str) -> Iterable[Component]:
    """The library OS itself; of its inputs, what the image has in it."""
    library_os = resolved.description
    kernel = resolved.inputs.get(_kernel(library_os))
    yield Component(
        ComponentKind.OPERATING_SYSTEM,
        library_os.name,
        version,
        licenses=(library_os.license,),
        sha256=kernel.sha256 if kernel else "",
    )


def _check_application(field_set: UnikernelImageFieldSet, library_os: LibraryOs, facts: dict[str, Any]) -> None:
    """Raises UnikernelBuildError for an application of a kind, or with needs, that the library OS has nothing for."""
    program = Program.of_facts([facts])
    without = field_set.does_without.value or ()
    assessment = assess(library_os, program, does_without=without)
    if assessment.readiness is Readiness.READY:
        return
    needed = sorted({need.capability.value for need in program.needs if need.certain} & set(unprovided(library_os)) - set(without))
    advice = f" If this image never does it, say {field_set.does_without.alias}={needed}." if needed else ""
    raise UnikernelBuildError(f"{field_set.address}: {'; '.join(assessment.reasons)}.{advice}")


async def _check_inputs_process(resolved: ResolvedLibraryOs, found: FoundInputs, description: Digest, toolkit: Toolkit) -> Process:
    name = resolved.description.name
    return await toolkit_process(
        toolkit,
        ["check-library-os", name, *_library_os_arguments(resolved, found)],
        description=f"Look at the kernel and the tools of {name}",
        input_digests=[description],
        immutable_input_digests=resolved.immutable_inputs,
        env={"UNIKERNEL_TOOLS": found.fingerprint},
    )


def _library_os_arguments(resolved: ResolvedLibraryOs, found: FoundInputs) -> list[str]:
    return [
        *resolved.description_options,
        *(f"--input={name}={path}" for name, path in sorted(found.paths.items())),
    ]


@rule(desc="Pack an image with a library OS", level=LogLevel.DEBUG)
async def build_packed_image(
    request: PackedImageRequest,
    library_oses: LibraryOsTargets,
    cc: CCSubsystem,
    env_target: EnvironmentTarget,
    python_setup: PythonSetup,
    toolkit: Toolkit,
    link_toolchain: LinkToolchain,
) -> BuiltImage:
    field_set = request.field_set
    origin = str(field_set.address)
    resolved = await resolve_library_os(field_set, library_oses)
    library_os = resolved.description
    pack = library_os.build
    assert isinstance(pack, Pack)
    check_fields(field_set, library_os)
    searched = await expand_search_paths(cc.search_paths)
    found = await find_inputs(field_set.address, resolved, searched, env_target)
    description = await engine.create_digest(resolved.description_files)
    await run_step(await _check_inputs_process(resolved, found, description, toolkit), origin)

    app = await package_app(field_set.app, python_setup)

    def check(facts: dict[str, Any]) -> None:
        _check_application(field_set, library_os, facts)

    only_program = pack.rootfs is RootfsForm.PROGRAM
    layers = await rootfs_layers(
        field_set,
        app,
        toolkit,
        link_toolchain,
        machine=library_os.architecture,
        check=check,
        only_program=only_program,
        tests=request.tests,
    )
    indexes = await engine.read_layer_indexes(layers)
    image = image_spec(field_set, request.tests)
    with errors_of(origin):
        # What the packer would find out, before it runs.
        choose_memory(image.memory, indexes, MemoryNeeds.of_library_os(library_os))
    path = field_set.output_path.value_or_default(file_ending=pack.suffix)
    version = _version(resolved)
    placed = place_layers(layers)
    spec = spec_file(image)
    process = await toolkit_process(
        toolkit,
        [
            "pack",
            f"--spec={spec.path}",
            *_library_os_arguments(resolved, found),
            f"--version={version}",
            *(f"--layer={layer}" for layer in placed.paths),
            f"--output={path}",
        ],
        description=f"Pack {origin}{' and its tests' if request.tests else ''} with {library_os.name}",
        input_digests=[*placed.digests, description, await engine.create_digest([spec])],
        immutable_input_digests={**placed.immutable_inputs, **resolved.immutable_inputs},
        env={"PATH": ":".join(searched), "UNIKERNEL_TOOLS": found.fingerprint},
        output_files=[path, manifest_path(path)],
    )
    if request.tests:
        return await built_image(path, [(await run_step(process, origin)).output_digest], [])
    inventory = Inventory(origin, [*listed_components(indexes), *_components(resolved, version)], __version__)
    sbom = await sbom_process(inventory, path, toolkit, indexes, time_zones=field_set.timezone.value is not None)
    results = await run_steps([process, sbom], origin)
    inputs = [*layer_inputs(indexes), *resolved.artifacts]
    debug = None
    if pack.kernel or only_program:
        symbols = found.paths[pack.kernel] if pack.kernel else artifact_path(app.paths[0])
        debug = await rootfs_debug_inputs(
            [f"--symbols={symbols}"], app, layers, placed, origin, toolkit, immutable_inputs=resolved.immutable_inputs
        )
    return await built_image(path, [result.output_digest for result in results], inputs, debug)


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
