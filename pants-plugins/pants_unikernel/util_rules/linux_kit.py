"""The Linux kit and PID 1, each compiled once by a cached process.

Three steps, so that what takes minutes is keyed by what really decides it: the part of the source that configures (once a source), the
resolved configuration (once a set of options), and the compilation (once a resolved configuration).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from pants.core.target_types import FileSourceField
from pants.engine.addresses import UnparsedAddressInputs
from pants.engine.fs import EMPTY_DIGEST, Digest, DownloadFile, FileDigest, FileEntry
from pants.engine.process import Process, ProcessCacheScope
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import HydrateSourcesRequest, SourcesField
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.image_types import LinuxParts, LinuxPartsRequest
from pants_unikernel.linux_types import InitToolchain, KernelSource, KernelToolchain, LinuxMaterials, LinuxSupply, Toolchain
from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.subsystems.toolkit import toolkit_sources
from pants_unikernel.util_rules import prebuilt_kits
from pants_unikernel.util_rules.failures import StepError, UnikernelBuildError, run_step
from pants_unikernel.util_rules.prebuilt_kits import INIT, KIT, PrebuiltKits, how_to_import, unpacked_kit
from pants_unikernel.util_rules.progress import run_reporting_step
from unikernel import __version__
from unikernel.image.components import linux_components
from unikernel.linux.kit_key import BASIC_SOURCES, CONFIGURE_SOURCES, INIT_SOURCES, KIT_SOURCES, key_ingredients
from unikernel.linux.pid1 import INIT_PATH

_SOURCE = "kernel-source.tar"
_SOURCE_OPTION = "[unikernel-linux].source"
# Whose problem it is when a configuration cannot be satisfied: see linux_parts().
_KERNEL = "the kernel"
_STEPS = "__unikernel"


async def _step(
    toolchain: Toolchain,
    argv: Sequence[str],
    *,
    description: str,
    input_digest: Digest = EMPTY_DIGEST,
    sources: Sequence[str] = BASIC_SOURCES,
    output_files: Sequence[str] = (),
    output_directories: Sequence[str] = (),
    append_only_caches: Mapping[str, str] | None = None,
    cache_scope: ProcessCacheScope = ProcessCacheScope.SUCCESSFUL,
) -> Process:
    """A process that runs `python -m unikernel.linux ARGV`: the standard library is all that it needs."""
    return Process(
        [toolchain.paths["python3"], "-s", "-B", "-m", "unikernel.linux", *argv],
        description=description,
        input_digest=input_digest,
        immutable_input_digests={_STEPS: await engine.create_digest(toolkit_sources(*sources))},
        env={**toolchain.environment, "PYTHONPATH": _STEPS, "LC_ALL": "C.UTF-8"},
        output_files=output_files,
        output_directories=output_directories,
        append_only_caches=append_only_caches,
        cache_scope=cache_scope,
    )


async def _kernel_source(linux: UnikernelLinux, toolchain: KernelToolchain) -> KernelSource:
    """The first of `[unikernel-linux].source` that is there, as an input like any other."""
    addresses = [entry for entry in linux.source if entry.startswith("//")]
    if addresses:
        return await _source_of_target(addresses[0])
    process = await _step(
        toolchain,
        ["describe-kernel-source", "--cache=.cache/unikernel_kernel_sources", *linux.source],
        description="Find the kernel's source",
        append_only_caches={"unikernel_kernel_sources": ".cache/unikernel_kernel_sources"},
        # It looks at this machine, as Pants does when it looks for programs: once a daemon's life.
        cache_scope=ProcessCacheScope.PER_RESTART_SUCCESSFUL,
    )
    result = await run_step(process, _SOURCE_OPTION)
    facts = json.loads(result.stdout)
    tarball = FileDigest(facts["sha256"], facts["size"])
    digest = await engine.download_file(DownloadFile(f"file://{facts['path']}", tarball))
    # Under one name, whatever it is called on this machine: the name is part of the processes' keys.
    entries = await engine.digest_entries(digest)
    renamed = [FileEntry(_SOURCE, entry.file_digest) for entry in entries if isinstance(entry, FileEntry)]
    return KernelSource(await engine.create_digest(renamed), _SOURCE)


async def _source_of_target(address: str) -> KernelSource:
    targets = await engine.find_targets(
        UnparsedAddressInputs([address], owning_address=None, description_of_origin=f"the option {_SOURCE_OPTION}")
    )
    sources = [target.get(SourcesField) for target in targets]
    if len(sources) != 1:
        raise UnikernelBuildError(f"{_SOURCE_OPTION}: {address} has {len(sources)} sources; name a target with one tarball.")
    hydrated = await engine.hydrate_sources(
        HydrateSourcesRequest(sources[0], for_sources_types=(FileSourceField,), enable_codegen=True)
    )
    if len(hydrated.snapshot.files) != 1:
        raise UnikernelBuildError(f"{_SOURCE_OPTION}: {address} is no `file` target with a tarball as its source.")
    return KernelSource(hydrated.snapshot.digest, hydrated.snapshot.files[0])


async def _build_kit(options: Sequence[str], source: KernelSource, toolchain: KernelToolchain) -> Digest:
    """The kit, below the directory `kit`."""
    config = await _resolve_configuration(source, options, toolchain)
    # Pants gives a process the share of the cores that is free when it starts, often one, and never more later. This one starts
    # among many short ones and outlives them: it uses all cores.
    process = await _step(
        toolchain,
        [
            "build-kit",
            f"--source={source.path}",
            "--config=kernel.config",
            f"--make={toolchain.paths['make']}",
            f"--tar={toolchain.paths['tar']}",
            f"--output={KIT}",
        ],
        description="Compile the Linux kernel into a linkable kit (some minutes, once for each configuration)",
        input_digest=await engine.merge_digests([source.digest, config]),
        sources=KIT_SOURCES,
        output_directories=[KIT],
    )
    return (await run_reporting_step(process, _KERNEL)).output_digest


async def _resolve_configuration(source: KernelSource, options: Sequence[str], toolchain: KernelToolchain) -> Digest:
    pack = await _step(
        toolchain,
        ["pack-kconfig", f"--source={source.path}", f"--tar={toolchain.paths['tar']}", "--output=kconfig.tar"],
        description="Read the kernel's options from its source",
        input_digest=source.digest,
        output_files=["kconfig.tar"],
    )
    kconfig = (await run_step(pack, _SOURCE_OPTION)).output_digest
    configure = await _step(
        toolchain,
        [
            "configure-kernel",
            "--kconfig=kconfig.tar",
            f"--make={toolchain.paths['make']}",
            f"--tar={toolchain.paths['tar']}",
            "--output=kernel.config",
            *(f"--option={option}" for option in options),
        ],
        description="Configure the kernel",
        input_digest=kconfig,
        sources=CONFIGURE_SOURCES,
        output_files=["kernel.config"],
    )
    return (await run_step(configure, _KERNEL)).output_digest


async def _build_init(toolchain: InitToolchain) -> Digest:
    """PID 1, as the file `init`."""
    process = await _step(
        toolchain,
        ["build-init", f"--compiler={toolchain.paths[toolchain.compiler]}", f"--output={INIT}"],
        description="Compile PID 1",
        sources=INIT_SOURCES,
        output_files=[INIT],
    )
    return (await run_step(process, "[unikernel-linux].init_compiler")).output_digest


@rule(desc="Find what Linux is compiled of and with", level=LogLevel.DEBUG)
async def find_linux_materials(
    linux: UnikernelLinux, kernel_toolchain: KernelToolchain, init_toolchain: InitToolchain
) -> LinuxMaterials:
    return LinuxMaterials(await _kernel_source(linux, kernel_toolchain), kernel_toolchain, init_toolchain)


@rule(desc="Find a prebuilt kit, or what Linux is compiled of and with", level=LogLevel.DEBUG)
async def find_linux_supply(request: LinuxPartsRequest, kits: PrebuiltKits) -> LinuxSupply:
    """With a kit, nothing that compiles is looked for."""
    key = key_ingredients(request.kernel_options).key
    unpacked = await unpacked_kit(key, kits)
    if unpacked is not None:
        return LinuxSupply(unpacked, None)
    try:
        return LinuxSupply(None, await engine.find_linux_materials())
    except UnikernelBuildError as error:
        raise UnikernelBuildError(f"{error} {how_to_import(key, kits)}") from error


@rule(desc="Build what images with Linux are linked with", level=LogLevel.DEBUG)
async def build_linux_parts(request: LinuxPartsRequest) -> LinuxParts:
    """Once for all images of a configuration: finding out that all of it is there takes time, too."""
    supply = await engine.find_linux_supply(request)
    if supply.materials is not None:
        kit = await _build_kit(request.kernel_options, supply.materials.source, supply.materials.kernel_toolchain)
        init = await _build_init(supply.materials.init_toolchain)
    else:
        assert supply.unpacked is not None
        kit = await engine.part_of(supply.unpacked, [f"{KIT}/**"])
        init = await engine.part_of(supply.unpacked, [INIT])
    facts = json.loads(await engine.file_content(kit, f"{KIT}/kit.json"))
    pid1 = await engine.file_digest(init, INIT)
    components = linux_components(facts["version"], facts["source_sha256"], __version__, pid1.fingerprint, INIT_PATH)
    return LinuxParts(kit, init, tuple(components))


async def linux_parts(options: Sequence[str], origin: str) -> LinuxParts:
    """`origin` names the target whose `kernel_config` is at fault when it cannot be satisfied."""
    try:
        return await engine.build_linux_parts(LinuxPartsRequest(tuple(options)))
    except StepError as error:
        if error.origin == _KERNEL:
            raise StepError(origin, error.reason) from error
        raise


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *prebuilt_kits.rules())
