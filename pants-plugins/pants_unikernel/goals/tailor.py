"""`tailor`: an image for each application that has none."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pants.core.goals.tailor import PutativeTarget, PutativeTargets, PutativeTargetsRequest
from pants.engine.addresses import Address
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import AllTargets, Target
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.target_types import CCBinaryTarget
from pants_unikernel.image_types import Service, ServiceRequest
from pants_unikernel.subsystems.images import UnikernelImages
from pants_unikernel.target_types import UnikernelImageAppField, UnikernelImageLibraryOsField, UnikernelImageTarget
from pants_unikernel.util_rules import readiness
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_named
from pants_unikernel.util_rules.readiness import images_by_app
from unikernel.library_os.description import LibraryOs
from unikernel.library_os.requirements import Readiness, assess

logger = logging.getLogger(__name__)

# By name: the backends that some of them belong to need not be there.
_APPLICATIONS = ("cc_binary", "docker_image", "go_binary", "pex_binary")
_NAME = "unikernel"


@dataclass(frozen=True)
class PutativeUnikernelImagesRequest(PutativeTargetsRequest):
    pass


def _objection(service: Service, library_os: LibraryOs) -> str:
    """Why it cannot work; nothing for what may, and for what cannot be packaged here (where there is no Docker engine, for instance)."""
    if service.program is None:
        return service.problem if service.is_packaged else ""
    assessment = assess(library_os, service.program, has_sources=service.alias == CCBinaryTarget.alias)
    return f"it {'; '.join(assessment.reasons)}" if assessment.readiness is Readiness.NOT else ""


async def _that_can_work(applications: Sequence[Target], library_os_targets: LibraryOsTargets) -> list[Target]:
    library_os = (await describe_named(UnikernelImageLibraryOsField.default, library_os_targets)).description
    services = await engine.analyse_services(ServiceRequest(target.address, None) for target in applications)
    able = []
    for target, service in zip(applications, services):
        objection = _objection(service, library_os)
        if objection:
            # No news at each run: `unikernel-readiness` says so when it is asked.
            logger.debug(f"An image of {target.address} is not proposed: {objection}")
            continue
        if service.program is None:
            logger.info(f"An image of {target.address} is proposed unseen: {service.problem}")
        able.append(target)
    return able


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


@rule(desc="Determine candidate unikernel images to create", level=LogLevel.DEBUG)
async def find_putative_unikernel_images(
    request: PutativeUnikernelImagesRequest,
    options: UnikernelImages,
    all_targets: AllTargets,
    library_os_targets: LibraryOsTargets,
) -> PutativeTargets:
    if not options.tailor:
        return PutativeTargets()
    directories = set(request.dirs)
    applications = [target for target in all_targets if target.alias in _APPLICATIONS and target.address.spec_path in directories]
    # One image for all of a parametrized application is `app=":name"`.
    have_images = {address.split("@", 1)[0] for address in await images_by_app(all_targets)}
    lacking = [target for target in applications if str(target.address).split("@", 1)[0] not in have_images]
    if options.tailor_readiness:
        lacking = await _that_can_work(lacking, library_os_targets)
    in_directory = Counter(target.address.spec_path for target in lacking)
    return PutativeTargets(_proposal(target.address, is_only_one=in_directory[target.address.spec_path] == 1) for target in lacking)


def rules() -> Iterable[Rule | UnionRule]:
    return (
        *collect_rules(),
        *readiness.rules(),
        UnionRule(PutativeTargetsRequest, PutativeUnikernelImagesRequest),
    )
