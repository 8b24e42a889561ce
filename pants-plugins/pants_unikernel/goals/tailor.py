"""`tailor`: an image for each service that has none. It builds nothing to decide."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pants.core.goals.tailor import PutativeTarget, PutativeTargets, PutativeTargetsRequest, TailorSubsystem
from pants.engine.addresses import Address
from pants.engine.internals.mapper import SpecsFilter
from pants.engine.rules import Rule, collect_rules
from pants.engine.target import AllTargets, Tags, Target
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.service_types import Candidate, CandidateRequest
from pants_unikernel.subsystems.images import OPT_OUT_TAG, UnikernelImages
from pants_unikernel.target_types import UnikernelImageAppField, UnikernelImageTarget
from pants_unikernel.util_rules import services
from pants_unikernel.util_rules.readiness import images_by_app
from pants_unikernel.util_rules.services import (
    DOCKER_IMAGE,
    PROGRAMS,
    Composition,
    docker_verdict,
    find_composition,
    plain_name,
)

logger = logging.getLogger(__name__)

_NAME = "unikernel"


@dataclass(frozen=True)
class PutativeUnikernelImagesRequest(PutativeTargetsRequest):
    pass


async def _decide(applications: Sequence[Target], all_targets: AllTargets) -> list[Candidate]:
    """Decide for each application, and for programs before Docker images.

    A Docker image is not proposed beside a program that it is made of.
    """
    composition = await find_composition(all_targets)
    with_images = _with_images(await images_by_app(all_targets), composition)
    programs = [target for target in applications if target.alias in PROGRAMS]
    images = [target for target in applications if target.alias == DOCKER_IMAGE]
    inside = {part for image in images for part in composition.all_parts(plain_name(image.address))}
    # Those inside of Docker images may be elsewhere: they are proposed when `tailor` runs there.
    asked = {target.address: target for target in programs}
    asked.update({each.address: each for each in all_targets if each.alias in PROGRAMS and plain_name(each.address) in inside})
    open_ones = [each for each in asked.values() if not _is_tagged(each) and not _is_among(each.address, with_images)]
    found = {each.address: each for each in await engine.find_candidates(CandidateRequest(each.address) for each in open_ones)}
    proposed = {plain_name(each.address) for each in found.values() if each.is_service}
    decisions = []
    for target in (*programs, *images):
        if _is_tagged(target):
            decision = Candidate(target.address, False, f"it has the tag {OPT_OUT_TAG}")
        elif _is_among(target.address, with_images):
            decision = Candidate(target.address, False, "it has an image, or is part of an application that has one")
        elif target.alias == DOCKER_IMAGE:
            verdict = docker_verdict(target, composition, proposed, with_images)
            decision = Candidate(target.address, verdict.is_service, verdict.reason)
        else:
            decision = found[target.address]
        decisions.append(decision)
    return sorted(decisions, key=lambda decision: decision.address.spec)


def _with_images(apps: Iterable[str], composition: Composition) -> set[str]:
    """Return all that an image has, by its `app`: also what the app is made of."""
    names = {plain_name(app) for app in apps}
    return names.union(*(composition.all_parts(name) for name in names))


def _is_among(address: Address, names: Iterable[str]) -> bool:
    """Return whether names have an address, or the target that generates it."""
    name = plain_name(address)
    return name in names or name.partition("#")[0] in names


def _is_tagged(target: Target) -> bool:
    return OPT_OUT_TAG in (target.get(Tags).value or ())


def _notice(chosen: Sequence[Address]) -> str:
    return (
        f"Services without a unikernel image: {', '.join(map(str, chosen))}. `tailor` without --check adds one for each; "
        "[unikernel-images].tailor_check has --check fail for them, [unikernel-images].tailor turns this off."
    )


def _proposal(address: Address, *, is_only_one: bool) -> PutativeTarget:
    """`is_only_one` tells that no other image is proposed in its directory."""
    relative = str(address)[len(address.spec_path) :] if address.spec_path else str(address)[len("//") :]
    name = _NAME if is_only_one else f"{re.sub('[^0-9A-Za-z_-]+', '-', relative).strip('-')}-{_NAME}"
    return PutativeTarget.for_target_type(
        UnikernelImageTarget,
        path=address.spec_path,
        name=name,
        triggering_sources=(),
        kwargs={UnikernelImageAppField.alias: relative},
    )


# A decision is logged in each run: the decisions themselves are cached.
@engine.uncacheable_rule(desc="Determine candidate unikernel images to create", level=LogLevel.DEBUG)
async def find_putative_unikernel_images(
    request: PutativeUnikernelImagesRequest,
    options: UnikernelImages,
    tailor: TailorSubsystem,
    all_targets: AllTargets,
    specs_filter: SpecsFilter,
) -> PutativeTargets:
    if not options.tailor:
        return PutativeTargets()
    directories = set(request.dirs)
    applications = [
        target
        for target in all_targets
        if target.alias in (*PROGRAMS, DOCKER_IMAGE) and target.address.spec_path in directories and specs_filter.matches(target)
    ]
    if not applications:
        return PutativeTargets()
    decisions = await _decide(applications, all_targets)
    for decision in decisions:
        outcome = "proposed" if decision.is_service else "not proposed"
        logger.debug(f"A unikernel image of {decision.address} is {outcome}: {decision.reason}")
    chosen = [decision.address for decision in decisions if decision.is_service]
    if tailor.check and not options.tailor_check:
        if chosen:
            logger.info(_notice(chosen))
        return PutativeTargets()
    in_directory = Counter(address.spec_path for address in chosen)
    return PutativeTargets(_proposal(address, is_only_one=in_directory[address.spec_path] == 1) for address in chosen)


def rules() -> Iterable[Rule | UnionRule]:
    return (
        *collect_rules(),
        *services.rules(),
        UnionRule(PutativeTargetsRequest, PutativeUnikernelImagesRequest),
    )
