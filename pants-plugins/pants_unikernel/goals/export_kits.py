"""The goal `unikernel-kit-export`: signed archives of the kernel kits that images are linked with,
for other machines.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from pants.base.specs import Specs
from pants.core.util_rules.distdir import DistDir
from pants.engine.console import Console
from pants.engine.fs import FileContent, Workspace
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.rules import Rule, collect_rules, goal_rule, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel
from pants.util.strutil import softwrap

from pants_unikernel import engine
from pants_unikernel.goals.usage import usage
from pants_unikernel.image_types import ExportedKit, KitExportRequest, KitExportRequestBase, Toolkit, UnikernelImageFieldSet
from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.embedded_image import kernel_options
from pants_unikernel.util_rules.failures import UnikernelBuildError, errors_of, run_step
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_library_os
from pants_unikernel.util_rules.linux_kit import linux_parts
from pants_unikernel.util_rules.prebuilt_kits import INIT, KIT
from pants_unikernel.util_rules.signing import ImageSigner
from unikernel.library_os.description import Embed
from unikernel.linux.kit_archive import archive_name
from unikernel.linux.kit_commands import describe_options
from unikernel.linux.kit_key import key_ingredients
from unikernel.signing.files import bundle_path
from unikernel.signing.keys import Message
from unikernel.signing.sign import kept_or_new_bundle

_DIRECTORY = "kits"


class UnikernelKitExportSubsystem(GoalSubsystem):
    name = "unikernel-kit-export"
    help = softwrap(
        """
        Write the kernel kits that unikernel images are linked with, one for each kernel
        configuration, to `kits` in the distribution directory, for machines without a compiler.
        The key of [unikernel-signing] signs them. See docs/kit.md.
        """
    )


class UnikernelKitExport(Goal):
    subsystem_cls = UnikernelKitExportSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


@goal_rule
async def export_kits(
    console: Console,
    specs: Specs,
    linux: UnikernelLinux,
    library_oses: LibraryOsTargets,
    dist_dir: DistDir,
    workspace: Workspace,
) -> UnikernelKitExport:
    if not specs and not specs.includes.from_change_detection:
        console.print_stderr(usage(UnikernelKitExportSubsystem.name, "the kernels of all images"))
        return UnikernelKitExport(exit_code=1)
    origins: dict[tuple[str, ...], str] = {}
    for target in await engine.targets_of_specs(specs):
        if UnikernelImageFieldSet.is_applicable(target):
            field_set = UnikernelImageFieldSet.create(target)
            if isinstance((await describe_library_os(field_set, library_oses)).description.build, Embed):
                origins.setdefault(tuple(kernel_options(field_set, linux)), str(field_set.address))
    if not origins:
        raise UnikernelBuildError(
            "unikernel-kit-export: none of the targets is a `unikernel_image` whose kernel is compiled. Name one with Linux."
        )
    kits = await engine.export_kits(KitExportRequest(options, origin) for options, origin in sorted(origins.items()))
    paths = [path for kit in kits for path in (kit.path, bundle_path(kit.path))]
    workspace.write_digest(
        await engine.merge_digests(kit.digest for kit in kits), path_prefix=str(dist_dir.relpath), clear_paths=paths
    )
    for options, kit in zip(sorted(origins), kits):
        console.write_stdout(_summary(dist_dir, options, kit))
    return UnikernelKitExport(exit_code=0)


def _summary(dist_dir: DistDir, options: tuple[str, ...], kit: ExportedKit) -> str:
    path = dist_dir.relpath / kit.path
    key, _ = os.path.splitext(path.name)
    lines = [
        f"Wrote {path}",
        f"  {kit.size / 10**6:.1f} MB, SHA-256 {kit.sha256}",
        f"  Linux {kit.kernel_version}, cache key {key}, {describe_options(options)}",
        f"  signed by {'the development key' if kit.is_development else 'the key'} {kit.signer}",
        f"  next, on each machine: unikernel kit import {path} --key PUB{' --allow-development-keys' if kit.is_development else ''}",
    ]
    return "".join(f"{line}\n" for line in lines)


@rule(desc="Export a kernel kit", level=LogLevel.DEBUG)
async def export_kit(request: KitExportRequest, signer: ImageSigner, toolkit: Toolkit) -> ExportedKit:
    if signer.signer is None:
        raise UnikernelBuildError(
            '[unikernel-signing].mode is "off", but only signed kits can be imported. Set it to "required", with a key.'
        )
    parts = await linux_parts(request.kernel_options, request.origin)
    name = archive_name(key_ingredients(request.kernel_options).key)
    process = await toolkit_process(
        toolkit,
        [
            *("pack-kit", f"--kit={KIT}", f"--init={INIT}", f"--output={name}"),
            *(f"--option={option}" for option in request.kernel_options),
            *(["--development-key"] if signer.is_development else []),
        ],
        description="Pack a Linux kit",
        input_digests=[parts.kit, parts.init],
        output_files=[name],
    )
    archive = (await run_step(process, request.origin)).output_digest
    file = await engine.file_digest(archive, name)
    # Only an Ed25519 key has to see all of it.
    content = b"" if signer.signer.public.signs_digests else await engine.file_content(archive, name)
    message = Message(bytes.fromhex(file.fingerprint), lambda: content)
    with errors_of(f"{name} cannot be signed"):
        bundle = kept_or_new_bundle(message, signer.signer, signer.previous_files(_DIRECTORY)(bundle_path(name)))
    signed = await engine.merge_digests([archive, await engine.create_digest([FileContent(bundle_path(name), bundle)])])
    return ExportedKit(
        await engine.add_prefix(signed, _DIRECTORY),
        f"{_DIRECTORY}/{name}",
        file.fingerprint,
        file.serialized_bytes_length,
        next(item.version for item in parts.components if item.name == "linux"),
        signer.fingerprint,
        signer.is_development,
    )


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(KitExportRequestBase, KitExportRequest))
