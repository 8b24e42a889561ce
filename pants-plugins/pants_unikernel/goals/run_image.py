"""`run` for `unikernel_image`: boots the image under QEMU."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pants.core.goals.run import RunDebugAdapterRequest, RunRequest
from pants.engine.process import Process
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.goals.package_image import image_of
from pants_unikernel.image_types import Toolkit, UnikernelImageFieldSet
from pants_unikernel.subsystems.run import UnikernelRun
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.debug_file import debug_file_of
from pants_unikernel.util_rules.image import build_image
from pants_unikernel.util_rules.library_os import LibraryOsTargets
from pants_unikernel.util_rules.signing import ImageSigner, trust_in


async def _run_process(
    field_set: UnikernelImageFieldSet,
    words: tuple[str, ...],
    toolkit: Toolkit,
    signer: ImageSigner,
    library_oses: LibraryOsTargets,
    *,
    is_debugged: bool,
) -> Process:
    """With the image's debug file, which has the symbols that a debugger and the report of a crash show."""
    package = await engine.package_target(field_set.address)
    image = image_of(package).relpath
    assert image is not None
    digests = [package.digest]
    built = await build_image(field_set, library_oses)
    if "debug" not in field_set.formats.value and (built.debug is not None or is_debugged):
        digests.append((await debug_file_of(field_set, built, toolkit)).digest)
    demanded: list[str] = []
    if signer.signer is not None:
        # What was just packaged is not booted before it proves to be what was signed.
        key, demanded = await trust_in(signer.public_key, signer.is_development, "{chroot}")
        digests.append(key)
    return await toolkit_process(
        toolkit,
        ["run", *words, *(["--debug"] if is_debugged else []), *demanded, os.path.join("{chroot}", image), "--"],
        description=f"Run {field_set.address}",
        input_digests=digests,
    )


def _as_request(process: Process) -> dict[str, Any]:
    """What a request to run it has."""
    executable, *arguments = process.argv
    return {
        "digest": process.input_digest,
        "args": (os.path.join("{chroot}", executable), *arguments),
        "extra_env": process.env,
        "append_only_caches": process.append_only_caches,
    }


@rule(desc="Prepare to run a unikernel image", level=LogLevel.DEBUG)
async def run_unikernel_image(
    field_set: UnikernelImageFieldSet,
    options: UnikernelRun,
    toolkit: Toolkit,
    signer: ImageSigner,
    library_oses: LibraryOsTargets,
) -> RunRequest:
    process = await _run_process(field_set, options.arguments, toolkit, signer, library_oses, is_debugged=options.debug)
    return RunRequest(**_as_request(process))


@rule(desc="Prepare to debug a unikernel image", level=LogLevel.DEBUG)
async def debug_unikernel_image(
    field_set: UnikernelImageFieldSet,
    options: UnikernelRun,
    toolkit: Toolkit,
    signer: ImageSigner,
    library_oses: LibraryOsTargets,
) -> RunDebugAdapterRequest:
    process = await _run_process(field_set, options.arguments, toolkit, signer, library_oses, is_debugged=True)
    return RunDebugAdapterRequest(**_as_request(process))


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *UnikernelRun.rules(), *UnikernelImageFieldSet.rules())
