"""`run` for `unikernel_image`: boots the image under QEMU."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pants.core.goals.run import RunRequest
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.goals.package_image import image_of
from pants_unikernel.image_types import UnikernelImageFieldSet
from pants_unikernel.subsystems.run import UnikernelRun
from pants_unikernel.subsystems.toolkit import Toolkit, toolkit_process
from pants_unikernel.util_rules.signing import ImageSigner, trust_in


@rule(desc="Prepare to run a unikernel image", level=LogLevel.DEBUG)
async def run_unikernel_image(
    field_set: UnikernelImageFieldSet, options: UnikernelRun, toolkit: Toolkit, signer: ImageSigner
) -> RunRequest:
    (package,) = await engine.package_all([field_set])
    image = image_of(package).relpath
    assert image is not None
    digest = package.digest
    demanded: list[str] = []
    if signer.signer is not None:
        # What was just packaged is not booted before it proves to be what was signed.
        key, demanded = await trust_in(signer.public_key, signer.is_development, "{chroot}")
        digest = await engine.merge_digests([package.digest, key])
    process = await toolkit_process(
        toolkit,
        ["run", *options.arguments, *demanded, os.path.join("{chroot}", image), "--"],
        description=f"Run {field_set.address}",
        input_digest=digest,
    )
    executable, *arguments = process.argv
    return RunRequest(
        digest=process.input_digest,
        args=(os.path.join("{chroot}", executable), *arguments),
        extra_env=process.env,
        append_only_caches=process.append_only_caches,
    )


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *UnikernelRun.rules(), *UnikernelImageFieldSet.rules())
