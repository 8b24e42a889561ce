"""`unikernel-verify`: holds what `package` wrote against a key and a policy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pants.base.build_root import BuildRoot
from pants.base.exceptions import MappingError
from pants.base.specs import Specs
from pants.core.util_rules.distdir import DistDir
from pants.engine.console import Console
from pants.engine.env_vars import CompleteEnvironmentVars
from pants.engine.fs import EMPTY_DIGEST
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.internals.native_engine import IntrinsicError
from pants.engine.internals.session import SessionValues
from pants.engine.rules import Rule, collect_rules, goal_rule, rule
from pants.engine.unions import UnionRule
from pants.option.option_types import BoolOption, StrListOption, StrOption
from pants.util.logging import LogLevel
from pants.util.strutil import softwrap

from pants_unikernel import engine
from pants_unikernel.goals.usage import usage
from pants_unikernel.image_types import Toolkit, UnikernelImageFieldSet, Verification, VerificationRequest, VerificationRequestBase
from pants_unikernel.subsystems.signing import UnikernelSigning
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.failures import UnikernelBuildError
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_library_os
from pants_unikernel.util_rules.signing import trust_in, trusted_key, user_path


class UnikernelVerifySubsystem(GoalSubsystem):
    name = "unikernel-verify"
    help = softwrap(
        """
        Verify packaged unikernel images: their signatures, provenance, manifests and SBOMs, as they are in the distribution directory.

        By default the key that signs is trusted, and so is a development key, where [unikernel-signing].mode is "development".
        """
    )

    keys = StrListOption(
        default=[],
        help="Paths of public keys (PEM) to trust in place of the one that signs.",
    )

    policy = StrOption(
        default=None,
        help="The path of a policy, a JSON file: which keys, sources and versions of a library OS are demanded. See docs/signing.md.",
    )

    allow_development_keys = BoolOption(
        default=False,
        help="Accept images that are signed with a development key.",
    )

    json = BoolOption(
        default=False,
        help="Print a line of JSON for each image instead of text.",
    )


class UnikernelVerify(Goal):
    subsystem_cls = UnikernelVerifySubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


async def _packaged_images(
    console: Console, specs: Specs, root: Path, dist_dir: DistDir, library_oses: LibraryOsTargets
) -> list[Path]:
    """Return the paths of the packaged images among the targets of `specs`.

    Raises UnikernelBuildError for an image that `specs` names and that is not packaged; another one is reported and skipped.
    """
    named = {(spec.path_component, spec.target_component) for spec in specs.includes.address_literals}
    images: list[Path] = []
    for target in await engine.targets_of_specs(specs):
        if not UnikernelImageFieldSet.is_applicable(target):
            continue
        field_set = UnikernelImageFieldSet.create(target)
        suffix = (await describe_library_os(field_set, library_oses)).suffix
        image = dist_dir.relpath / field_set.output_path.value_or_default(file_ending=suffix)
        address = field_set.address
        if (root / image).exists():
            images.append(root / image)
        elif named & {(address.spec_path, address.target_name), (address.spec_path, None)}:
            raise UnikernelBuildError(f"{address}: {image} is not there to be verified; package it first.")
        else:
            console.print_stderr(f"{address}: not packaged, so not verified")
    return images


@goal_rule
async def verify_images(
    console: Console,
    specs: Specs,
    options: UnikernelVerifySubsystem,
    signing: UnikernelSigning,
    dist_dir: DistDir,
    build_root: BuildRoot,
    session_values: SessionValues,
    library_oses: LibraryOsTargets,
) -> UnikernelVerify:
    if not specs and not specs.includes.from_change_detection:
        console.print_stderr(usage(UnikernelVerifySubsystem.name, "every packaged image"))
        return UnikernelVerify(exit_code=1)
    environment = session_values[CompleteEnvironmentVars]
    root = build_root.pathlib_path
    try:
        images = await _packaged_images(console, specs, root, dist_dir, library_oses)
        if not images and specs.includes.from_change_detection:
            console.print_stderr("No packaged unikernel image is among what changed: nothing was verified.")
            return UnikernelVerify(exit_code=0)
        if not images:
            raise UnikernelBuildError("none of the targets is a packaged unikernel image; package some first.")
        digest, trusted = EMPTY_DIGEST, [f"--key={user_path(path, root, environment)}" for path in options.keys]
        if not trusted:
            digest, trusted = await trust_in(*trusted_key(signing, root, environment))
    except (IntrinsicError, MappingError, UnikernelBuildError) as error:
        # A user's mistake is one line, without the engine's traceback.
        console.print_stderr(f"{UnikernelVerifySubsystem.name}: {' '.join(str(error).split())}")
        return UnikernelVerify(exit_code=1)
    arguments = (
        *trusted,
        *([f"--policy={user_path(options.policy, root, environment)}"] if options.policy else []),
        *(["--allow-development-keys"] if options.allow_development_keys else []),
        *(["--json"] if options.json else []),
        *map(str, images),
    )
    verification = await engine.prepare_verification(VerificationRequest(arguments, digest))
    result = await engine.run_in_foreground(verification.process)
    return UnikernelVerify(exit_code=result.exit_code)


@rule(desc="Prepare to verify unikernel images", level=LogLevel.DEBUG)
async def prepare_verification(request: VerificationRequest, toolkit: Toolkit) -> Verification:
    description = "Verify unikernel images"
    return Verification(
        await toolkit_process(toolkit, ["verify", *request.arguments], description=description, input_digests=[request.keys])
    )


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(VerificationRequestBase, VerificationRequest))
