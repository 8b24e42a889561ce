"""What a service asks of its operating system: packaged and laid out as for an image, and no further."""

from __future__ import annotations

from collections.abc import Iterable

from pants.backend.python.subsystems.setup import PythonSetup
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import AllTargets
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.image_types import Service, ServiceRequest, ServiceRequestBase, Toolkit, UnikernelImageFieldSet
from pants_unikernel.linux_types import LinkToolchain
from pants_unikernel.util_rules.rootfs import (
    application_layers,
    lay_out_application,
    package_app_target,
)
from unikernel.library_os.requirements import Program


@rule(desc="Look at a service", level=LogLevel.DEBUG)
async def analyse_service(
    request: ServiceRequest, python_setup: PythonSetup, toolkit: Toolkit, link_toolchain: LinkToolchain
) -> Service:
    """What cannot be packaged or laid out is part of the report: it does not end it."""
    target = await engine.find_target(request.address)
    origin = str(request.address)
    try:
        app = await package_app_target(target, request.address, "specs", python_setup)
        application = await lay_out_application(app, request.executable, origin, toolkit, link_toolchain)
        layers = await application_layers(application, origin, toolkit)
        facts = [index.facts for index in await engine.read_layer_indexes(layers)]
    except Exception as error:
        return Service(request.address, target.alias, None, str(error).strip() or type(error).__name__)
    return Service(request.address, target.alias, Program.of_facts(facts))


async def images_by_app(all_targets: AllTargets) -> dict[str, UnikernelImageFieldSet]:
    """The first image of each application: it says which file of an archive starts, and what the application does without."""
    images = [UnikernelImageFieldSet.create(target) for target in all_targets if UnikernelImageFieldSet.is_applicable(target)]
    by_app: dict[str, UnikernelImageFieldSet] = {}
    for image in images:
        for address in await engine.parse_addresses(image.app.to_unparsed_address_inputs()):
            by_app.setdefault(str(address), image)
    return by_app


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(ServiceRequestBase, ServiceRequest))
