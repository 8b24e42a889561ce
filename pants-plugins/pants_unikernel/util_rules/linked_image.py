"""An image whose program is linked with a library OS: its sources are compiled for it, a translation unit a cached process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pants.backend.cc.subsystems.compiler import CCSubsystem
from pants.core.util_rules.environments import EnvironmentTarget
from pants.core.util_rules.system_binaries import BinaryPathRequest
from pants.engine.fs import FileContent
from pants.engine.process import ProcessCacheScope
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import Target
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.compile import compile_objects, data_sources_request
from pants_unikernel.cc.link import link_binary
from pants_unikernel.cc.package_binary import CCBinaryFieldSet
from pants_unikernel.cc.target_types import CCBinaryTarget
from pants_unikernel.cc.toolchain import (
    DEFAULT_COMPILE_FLAGS,
    CCDriver,
    CCToolchain,
    expand_search_paths,
    host_probe,
    probe_host,
)
from pants_unikernel.image_types import BuiltImage, LinkedImageRequest, UnikernelImageFieldSet
from pants_unikernel.library_os_target import LibraryOsTarget
from pants_unikernel.subsystems.toolkit import Toolkit, toolkit_process
from pants_unikernel.util_rules.failures import UnikernelBuildError, run_step, run_steps
from pants_unikernel.util_rules.image import built_image, image_spec
from pants_unikernel.util_rules.library_os import LibraryOsTargets, ResolvedLibraryOs, resolve_library_os
from pants_unikernel.util_rules.sbom import sbom_process
from unikernel import __version__
from unikernel.errors import UnikernelError
from unikernel.image.spec import Network
from unikernel.library_os.command_line import render_command_line
from unikernel.library_os.description import LibraryOs, Link
from unikernel.sbom.component import Component, ComponentKind
from unikernel.sbom.inventory import Inventory
from unikernel.signing.files import manifest_path
from unikernel.signing.provenance import Artifact

_PROGRAM = "program"
_SPEC = "image-spec.json"
_DESCRIPTION = "compiler.json"
_LIBRARY_OS = "library-os.yaml"
_INPUTS = "__inputs"


def check_fields(field_set: UnikernelImageFieldSet, library_os: LibraryOs) -> None:
    """Raises UnikernelBuildError for what the library OS has no use for, or no way to be told."""
    name, origin = library_os.name, field_set.address
    without_use = (
        field_set.executable,
        field_set.files,
        field_set.gateway,
        field_set.hostname,
        field_set.ip_address,
        field_set.kernel_config,
        field_set.kernel_parameters,
        field_set.nameservers,
        field_set.timezone,
        field_set.working_directory,
    )
    for item in (*without_use, *(() if _has_network(library_os) else (field_set.network, field_set.ports))):
        if item.value and item.value not in (item.default, "none"):
            raise UnikernelBuildError(f"{origin}: the `{item.alias}` field means nothing to {name}: leave it out.")
    if field_set.cpus.value > 1 and not library_os.limits.threads:
        raise UnikernelBuildError(f"{origin}: the `cpus` field is {field_set.cpus.value}, and {name} has no threads: leave it out.")
    memory = field_set.memory.bytes
    if memory is not None and memory < library_os.minimum_memory:
        raise UnikernelBuildError(
            f"{origin}: the `memory` field is {field_set.memory.value}, and {name} needs {library_os.minimum_memory >> 20}M at least."
        )
    try:
        render_command_line(library_os, "", field_set.args.value or (), dict(field_set.env.value or {}))
    except UnikernelError as error:
        raise UnikernelBuildError(f"{origin}: {error}") from error


def _outside(flags: Iterable[str]) -> list[str]:
    """The flags that say what of this machine is read: those with inputs in them name files that are part of the cache's key already."""
    return [flag for flag in flags if _INPUTS not in flag]


def _has_network(library_os: LibraryOs) -> bool:
    return any(machine.network_device for machine in library_os.machines.values())


async def _sources(field_set: UnikernelImageFieldSet, library_os: LibraryOs) -> Target:
    targets = await engine.find_targets(field_set.app.to_unparsed_address_inputs())
    for target in targets:
        if len(targets) == 1 and CCBinaryFieldSet.is_applicable(target):
            return target
    found = f"{targets[0].address}, a `{targets[0].alias}`" if len(targets) == 1 else f"{len(targets)} targets"
    raise UnikernelBuildError(
        f"{field_set.address}: the `app` field names {found}, and {library_os.name} takes sources, which it compiles itself: name a "
        f"`{CCBinaryTarget.alias}`."
    )


async def _find_tools(field_set: UnikernelImageFieldSet, resolved: ResolvedLibraryOs, searched: tuple[str, ...]) -> dict[str, str]:
    """The paths of the library OS's inputs, by name: in a process's sandbox for those that a target brings.

    Raises UnikernelBuildError that says what is missing and where it is published.
    """
    library_os = resolved.description
    names = sorted(set(library_os.inputs) - set(resolved.inputs))
    found = await engine.find_binaries(
        BinaryPathRequest(binary_name=library_os.inputs[name].default or name, search_path=searched) for name in names
    )
    missing = [name for name, paths in zip(names, found) if paths.first_path is None]
    if missing:
        wanted = ", ".join(f"{library_os.inputs[name].default or name} ({library_os.inputs[name].what})" for name in missing)
        raise UnikernelBuildError(
            f"{field_set.address}: {library_os.name} needs {wanted}, not found on {':'.join(searched)}. Such are published as: "
            f"{library_os.published}. A `{LibraryOsTarget.alias}` target can name others as its `inputs`."
        )
    on_path = {name: paths.first_path.path for name, paths in zip(names, found) if paths.first_path is not None}
    return {**on_path, **{name: f"{_INPUTS}/{name}/{file.path}" for name, file in resolved.inputs.items()}}


def _components(app: Target, library_os: LibraryOs, version: str, files: Iterable[dict[str, str]]) -> Iterable[Component]:
    yield Component(ComponentKind.APPLICATION, str(app.address))
    yield Component(ComponentKind.OPERATING_SYSTEM, library_os.name, version, licenses=(library_os.license,))
    for file in files:
        name = file["path"].rpartition("/")[2]
        yield Component(ComponentKind.LIBRARY, name, file["version"], file["purl"], sha256=file["sha256"])


async def _toolchain(
    resolved: ResolvedLibraryOs, link: Link, tools: Mapping[str, str], searched: tuple[str, ...], env_target: EnvironmentTarget
) -> CCToolchain:
    compiler = tools[link.compiler]
    compile_flags, link_flags = (tuple(flag.format(**tools) for flag in flags) for flags in (link.compile_flags, link.link_flags))
    return CCToolchain(
        c_driver=CCDriver(compiler),
        cxx_driver=CCDriver(None, f"{resolved.description.name} has no C++ compiler: its description names one for C."),
        fingerprint=await probe_host(
            await host_probe(searched, env_target.executable_search_path_cache_scope()),
            ["linked", compiler, *_outside(link_flags)],
            search_path=searched,
            description=f"Fingerprint {compiler}",
        ),
        search_path=searched,
        immutable_inputs=FrozenDict({f"{_INPUTS}/{name}": file.digest for name, file in resolved.inputs.items()}),
        c_flags=(*DEFAULT_COMPILE_FLAGS, *compile_flags),
        link_flags=link_flags,
    )


async def _describe_compiler(
    compiler: str, toolchain: CCToolchain, library_os: str, origin: str, toolkit: Toolkit
) -> dict[str, Any]:
    """Which files of this machine it links with: see unikernel.host.compiler."""
    process = await toolkit_process(
        toolkit,
        [
            "describe-compiler",
            f"--compiler={compiler}",
            *(f"--flag={flag}" for flag in toolchain.link_flags),
            f"--output={_DESCRIPTION}",
        ],
        description=f"Look at what {library_os} links with",
        input_digest=await engine.create_digest([]),
        env={"PATH": ":".join(toolchain.search_path)},
        immutable_input_digests=toolchain.immutable_inputs,
        output_files=[_DESCRIPTION],
        # It looks at this machine's files, whose digests it gives.
        cache_scope=ProcessCacheScope.PER_RESTART_SUCCESSFUL,
    )
    return json.loads(await engine.file_content((await run_step(process, origin)).output_digest, _DESCRIPTION))


@rule(desc="Link an image with a library OS", level=LogLevel.DEBUG)
async def build_linked_image(
    request: LinkedImageRequest, library_oses: LibraryOsTargets, cc: CCSubsystem, env_target: EnvironmentTarget, toolkit: Toolkit
) -> BuiltImage:
    field_set = request.field_set
    origin = str(field_set.address)
    resolved = await resolve_library_os(field_set, library_oses)
    library_os = resolved.description
    link = library_os.build
    assert isinstance(link, Link)
    check_fields(field_set, library_os)
    app = await _sources(field_set, library_os)
    binary_fields = CCBinaryFieldSet.create(app)

    searched = await expand_search_paths(cc.search_paths)
    tools = await _find_tools(field_set, resolved, searched)
    toolchain = await _toolchain(resolved, link, tools, searched, env_target)
    transitive = await engine.transitive_targets([app.address])
    objects = await compile_objects(transitive.dependencies, toolchain, binary_fields.compile_options, needed_by=origin)
    if not objects.units:
        raise UnikernelBuildError(f"{origin}: the `app` field names {app.address}, which has no sources in its dependencies.")
    data = await engine.source_files(data_sources_request(transitive.dependencies))
    program = await link_binary(
        objects,
        toolchain,
        binary_fields.link_options,
        output_path=_PROGRAM,
        needed_by=origin,
        input_digest=data.snapshot.digest,
        provider=library_os.name,
    )
    described = await _describe_compiler(tools[link.compiler], toolchain, library_os.name, origin, toolkit)
    version = described["libc_version"] or described["version"]

    path = field_set.output_path.value_or_default(file_ending="elf")
    spec = dataclasses.replace(image_spec(field_set), tools={"compiler": described["version"]})
    if not _has_network(library_os):
        spec = dataclasses.replace(spec, network=Network(mode="none"))
    documents = [FileContent(_SPEC, spec.to_json().encode())]
    if resolved.text:
        documents.append(FileContent(_LIBRARY_OS, resolved.text.encode()))
    stamp = await toolkit_process(
        toolkit,
        [
            "stamp",
            f"--spec={_SPEC}",
            *([f"--description={_LIBRARY_OS}"] if resolved.text else []),
            f"--program={program.path}",
            f"--version={version}",
            *(f"--input=library {file['path']}={file['sha256']}" for file in described["files"]),
            f"--objcopy={tools[link.objcopy]}",
            f"--output={path}",
        ],
        description=f"Put the manifest into {origin}",
        input_digest=await engine.merge_digests([program.digest, await engine.create_digest(documents)]),
        immutable_input_digests=toolchain.immutable_inputs,
        output_files=[path, manifest_path(path)],
    )
    inventory = Inventory(origin, [*_components(app, library_os, version, described["files"])], __version__)
    results = await run_steps([stamp, await sbom_process(inventory, path, toolkit)], origin)
    linked = await engine.file_digest(program.digest, program.path)
    inputs = [Artifact(f"app {app.address}", linked.fingerprint)]
    inputs += [Artifact(f"{library_os.name} {name}", file.sha256) for name, file in resolved.inputs.items()]
    return await built_image(path, [result.output_digest for result in results], inputs)


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
