"""An image whose program is linked with a library OS: its sources are compiled for it, a translation unit a cached process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pants.backend.cc.subsystems.compiler import CCSubsystem
from pants.backend.cc.target_types import CCSourceField
from pants.core.util_rules.environments import EnvironmentTarget
from pants.engine.fs import Digest, Directory, FileContent, Snapshot
from pants.engine.process import Process, ProcessCacheScope
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import Target
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.compile import (
    CompiledObjects,
    CompileOptions,
    compile_made_source,
    compile_objects,
    data_sources_request,
)
from pants_unikernel.cc.link import LinkOptions, link_binary
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
from pants_unikernel.image_types import BuiltImage, LinkedImageRequest, Toolkit, UnikernelImageFieldSet
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.debug_file import program_debug_inputs
from pants_unikernel.util_rules.failures import UnikernelBuildError, run_step, run_steps
from pants_unikernel.util_rules.image import built_image, image_spec, spec_file
from pants_unikernel.util_rules.library_os import (
    FoundInputs,
    LibraryOsTargets,
    ResolvedLibraryOs,
    check_fields,
    find_inputs,
    is_own_file,
    resolve_library_os,
)
from pants_unikernel.util_rules.sbom import sbom_process
from unikernel import __version__
from unikernel.image.spec import Network
from unikernel.library_os.description import Generate, LibraryOs, Link
from unikernel.sbom.component import Component, ComponentKind
from unikernel.sbom.inventory import Inventory
from unikernel.signing.files import manifest_path
from unikernel.signing.provenance import Artifact

_PROGRAM = "program"
_DESCRIPTION = "compiler.json"
_GENERATED = "__generated"


@dataclass(frozen=True)
class _Program:
    """What is compiled: `targets` are sources and what they may read."""

    name: str
    targets: tuple[Target, ...]
    compile_options: CompileOptions = CompileOptions()
    link_options: LinkOptions = LinkOptions()


async def _find_program(field_set: UnikernelImageFieldSet, library_os: LibraryOs) -> _Program:
    """Of a `cc_binary`, or of `cc_sources` that are a program only with this library OS."""
    targets = await engine.find_targets(field_set.app.to_unparsed_address_inputs())
    if len(targets) == 1 and CCBinaryFieldSet.is_applicable(targets[0]):
        binary = CCBinaryFieldSet.create(targets[0])
        transitive = await engine.transitive_targets([binary.address])
        return _Program(str(binary.address), tuple(transitive.dependencies), binary.compile_options, binary.link_options)
    if targets and all(target.has_field(CCSourceField) for target in targets):
        transitive = await engine.transitive_targets(target.address for target in targets)
        return _Program(str(targets[0].address.maybe_convert_to_target_generator()), tuple(transitive.closure))
    found = f"{targets[0].address}, a `{targets[0].alias}`" if len(targets) == 1 else f"{len(targets)} targets"
    raise UnikernelBuildError(
        f"{field_set.address}: the `app` field names {found}, and {library_os.name} takes sources, which it compiles itself: name a "
        f"`{CCBinaryTarget.alias}` or `cc_sources`."
    )


def _components(app: str, library_os: LibraryOs, version: str, files: Iterable[dict[str, str]]) -> Iterable[Component]:
    yield Component(ComponentKind.APPLICATION, app)
    yield Component(ComponentKind.OPERATING_SYSTEM, library_os.name, version, licenses=(library_os.license,))
    for file in files:
        name = file["path"].rpartition("/")[2]
        yield Component(ComponentKind.LIBRARY, name, file["version"], file["purl"], sha256=file["sha256"])


async def _toolchain(
    resolved: ResolvedLibraryOs, link: Link, tools: FoundInputs, searched: tuple[str, ...], env_target: EnvironmentTarget
) -> CCToolchain:
    compiler = tools.paths[link.compiler]
    compile_flags, link_flags = (
        tuple(flag.format(**tools.paths) for flag in flags) for flags in (link.compile_flags, link.link_flags)
    )
    return CCToolchain(
        c_driver=CCDriver(compiler),
        cxx_driver=CCDriver(None, f"{resolved.description.name} has no C++ compiler: its description names one for C."),
        fingerprint=await probe_host(
            await host_probe(searched, env_target.executable_search_path_cache_scope()),
            # Flags that name our inputs say nothing of this machine: these files are part of the cache's key already.
            ["linked", compiler, *(flag for flag in link_flags if not is_own_file(flag))],
            search_path=searched,
            description=f"Fingerprint {compiler}",
        ),
        search_path=searched,
        immutable_inputs=FrozenDict(resolved.immutable_inputs),
        c_flags=(*DEFAULT_COMPILE_FLAGS, *compile_flags),
        link_flags=link_flags,
    )


async def _describe_compiler(
    link: Link, tools: FoundInputs, toolchain: CCToolchain, library_os: str, origin: str, toolkit: Toolkit
) -> dict[str, Any]:
    """Which files of this machine it links with: see unikernel.host.compiler."""
    process = await toolkit_process(
        toolkit,
        [
            "describe-compiler",
            f"--compiler={tools.paths[link.compiler]}",
            *(f"--version-command={word.format(**tools.paths)}" for word in link.version),
            *(f"--flag={flag}" for flag in toolchain.link_flags),
            f"--output={_DESCRIPTION}",
        ],
        description=f"Look at what {library_os} links with",
        env={"PATH": ":".join(toolchain.search_path)},
        immutable_input_digests=toolchain.immutable_inputs,
        output_files=[_DESCRIPTION],
        # It looks at this machine's files, whose digests it gives.
        cache_scope=ProcessCacheScope.PER_RESTART_SUCCESSFUL,
    )
    return json.loads(await engine.file_content((await run_step(process, origin)).output_digest, _DESCRIPTION))


@dataclass(frozen=True)
class _GeneratedSource:
    path: str
    digest: Digest


async def _generated_source(
    generate: Generate, field_set: UnikernelImageFieldSet, data: Snapshot, tools: FoundInputs, toolchain: CCToolchain
) -> _GeneratedSource:
    """The source that the library OS's tool makes of a document: the application's own, if it brings one."""
    origin = str(field_set.address)
    own = [path for path in data.files if path.rpartition("/")[2] == generate.document]
    if len(own) > 1:
        raise UnikernelBuildError(f"{origin}: the application brings {' and '.join(own)}, and one {generate.document} is used.")
    if own:
        document, digest = own[0], data.digest
    else:
        network = generate.network if field_set.network.mode != "none" else ""
        document = generate.document
        digest = await engine.create_digest([FileContent(document, generate.text.format(network=network).encode())])
    path = f"{_GENERATED}/{generate.source}"
    place = {**tools.paths, "document": document, "source": path}
    result = await engine.run_fallible_process(
        Process(
            [word.format(**place) for word in generate.command],
            env={**toolchain.process_env(), "UNIKERNEL_TOOLS": tools.fingerprint},
            input_digest=await engine.merge_digests([digest, await engine.create_digest([Directory(_GENERATED)])]),
            immutable_input_digests=toolchain.immutable_inputs,
            output_files=[path],
            description=f"Make {generate.source} of {document} for {origin}",
        )
    )
    printed = (result.stdout + result.stderr).decode(errors="replace").strip()
    if result.exit_code != 0:
        raise UnikernelBuildError(f"{origin}: {generate.source} cannot be made of {document}: {printed}")
    return _GeneratedSource(path, result.output_digest)


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
    app = await _find_program(field_set, library_os)

    searched = await expand_search_paths(cc.search_paths)
    tools = await find_inputs(field_set.address, resolved, searched, env_target)
    toolchain = await _toolchain(resolved, link, tools, searched, env_target)
    objects = await compile_objects(app.targets, toolchain, app.compile_options, needed_by=origin)
    if not objects.units:
        raise UnikernelBuildError(f"{origin}: the `app` field names {app.name}, which has no sources in its dependencies.")
    data = await engine.source_files(data_sources_request(app.targets))
    if link.generate is not None:
        source = await _generated_source(link.generate, field_set, data.snapshot, tools, toolchain)
        made = await compile_made_source(source.path, source.digest, toolchain, needed_by=origin)
        objects = CompiledObjects(await engine.merge_digests([objects.digest, made.digest]), (*objects.units, *made.units))
    program = await link_binary(
        objects,
        toolchain,
        app.link_options,
        output_path=_PROGRAM,
        needed_by=origin,
        input_digest=data.snapshot.digest,
        provider=library_os.name,
    )
    described = await _describe_compiler(link, tools, toolchain, library_os.name, origin, toolkit)
    version = resolved.version or described["library_version"] or described["version"]

    path = field_set.output_path.value_or_default(file_ending="elf")
    spec = dataclasses.replace(image_spec(field_set), tools={"compiler": described["version"]})
    if "network" not in library_os.honours:
        spec = dataclasses.replace(spec, network=Network(mode="none"))
    document = spec_file(spec)
    stamp = await toolkit_process(
        toolkit,
        [
            "stamp",
            f"--spec={document.path}",
            *resolved.description_options,
            f"--program={program.path}",
            f"--version={version}",
            *(f"--input=library {file['path']}={file['sha256']}" for file in described["files"]),
            f"--objcopy={tools.paths[link.objcopy]}",
            f"--output={path}",
        ],
        description=f"Put the manifest into {origin}",
        input_digests=[program.digest, await engine.create_digest([document, *resolved.description_files])],
        immutable_input_digests=toolchain.immutable_inputs,
        output_files=[path, manifest_path(path)],
    )
    inventory = Inventory(origin, [*_components(app.name, library_os, version, described["files"])], __version__)
    results = await run_steps([stamp, await sbom_process(inventory, path, toolkit)], origin)
    linked = await engine.file_digest(program.digest, program.path)
    inputs = [Artifact(f"app {app.name}", linked.fingerprint), *resolved.artifacts]
    debug = program_debug_inputs(program.digest, program.path)
    return await built_image(path, [result.output_digest for result in results], inputs, debug)


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
