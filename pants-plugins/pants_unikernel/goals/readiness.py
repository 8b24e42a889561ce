"""The goal `unikernel-readiness`: which library OSes each service of a repository runs on, and what keeps it from others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pants.backend.python.target_types import PythonDistribution
from pants.engine.console import Console
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.rules import Rule, collect_rules, goal_rule
from pants.engine.target import AllTargets, FilteredTargets, Target
from pants.engine.unions import UnionRule
from pants.option.option_types import BoolOption, StrListOption

from pants_unikernel import engine
from pants_unikernel.cc.target_types import CCBinaryTarget
from pants_unikernel.image_types import Service, ServiceRequest, UnikernelImageFieldSet
from pants_unikernel.util_rules import readiness
from pants_unikernel.util_rules.failures import UnikernelBuildError
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_named, known_names
from pants_unikernel.util_rules.readiness import images_by_app
from unikernel.library_os import unknown_library_os
from unikernel.library_os.description import LibraryOs
from unikernel.library_os.requirements import Assessment, assess

# They are packaged, and nothing of them starts by itself; or something other than files comes of it.
_NO_SERVICES = (PythonDistribution.alias, "docker_image")


class UnikernelReadinessSubsystem(GoalSubsystem):
    name = "unikernel-readiness"
    help = "Which library OSes each service runs on as it is, with changes, or not, and why. Packages the services."

    json = BoolOption(default=False, help="Print JSON instead of text.")
    library_os = StrListOption(help="The library OSes to look at; all by default.")


class UnikernelReadiness(Goal):
    subsystem_cls = UnikernelReadinessSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


@dataclass(frozen=True)
class _Report:
    service: Service
    by_library_os: Mapping[str, Assessment]

    def to_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"address": str(self.service.address), "type": self.service.alias}
        if self.service.program is None:
            return {**document, "problem": self.service.problem}
        return {
            **document,
            "program": {"name": self.service.program.name, "kind": self.service.program.kind.value},
            "library_oses": {
                name: {"readiness": item.readiness.value, "reasons": list(item.reasons), "notes": list(item.notes)}
                for name, item in self.by_library_os.items()
            },
        }

    def to_text(self) -> str:
        title = f"{self.service.address} ({self.service.alias})"
        if self.service.program is None:
            return f"{title}: cannot be looked at: {self.service.problem}\n"
        width = max(map(len, self.by_library_os))
        lines = [title]
        for name, item in self.by_library_os.items():
            words = "; ".join((*item.reasons, *item.notes))
            lines.append(
                f"  {name:<{width}}  {item.readiness.value}{': ' if item.reasons else ', but it ' if words else ''}{words}"
            )
        return "\n".join(lines) + "\n"


async def _library_oses(options: UnikernelReadinessSubsystem, targets: LibraryOsTargets) -> dict[str, LibraryOs]:
    known = known_names(targets)
    for name in options.library_os:
        if name not in known:
            raise UnikernelBuildError(f"--unikernel-readiness-library-os: {unknown_library_os(name, known)}")
    return {name: (await describe_named(name, targets)).description for name in options.library_os or known}


async def _services(candidates: FilteredTargets) -> list[Target]:
    """What is packaged, images excepted."""
    targets = [
        target for target in candidates if target.alias not in _NO_SERVICES and not UnikernelImageFieldSet.is_applicable(target)
    ]
    field_sets = await engine.packageable_field_sets(targets)
    return [target for target, found in zip(targets, field_sets.collection) if found]


@goal_rule
async def report_readiness(
    console: Console,
    candidates: FilteredTargets,
    all_targets: AllTargets,
    options: UnikernelReadinessSubsystem,
    library_os_targets: LibraryOsTargets,
) -> UnikernelReadiness:
    library_oses = await _library_oses(options, library_os_targets)
    services = await _services(candidates)
    if not services:
        raise UnikernelBuildError("unikernel-readiness: none of the targets is packaged as a service, such as a `pex_binary`.")
    images = await images_by_app(all_targets)
    analysed = await engine.analyse_services(
        ServiceRequest(target.address, images[str(target.address)].executable.value if str(target.address) in images else None)
        for target in services
    )
    reports = []
    for service in analysed:
        image = images.get(str(service.address))
        without = tuple(image.does_without.value or ()) if image is not None else ()
        by_library_os = {
            name: assess(library_os, service.program, has_sources=service.alias == CCBinaryTarget.alias, does_without=without)
            for name, library_os in library_oses.items()
            if service.program is not None
        }
        reports.append(_Report(service, by_library_os))
    _print(console, options, reports, library_oses, library_os_targets)
    return UnikernelReadiness(exit_code=0)


def _print(
    console: Console,
    options: UnikernelReadinessSubsystem,
    reports: list[_Report],
    library_oses: Mapping[str, LibraryOs],
    targets: LibraryOsTargets,
) -> None:
    missing = {name: _undeclared(library_os, targets) for name, library_os in library_oses.items()}
    if options.json:
        document = {
            "services": [report.to_document() for report in reports],
            "library_oses": {
                name: {"tried": library_os.tried, "to_declare": missing[name], "published": library_os.published}
                for name, library_os in library_oses.items()
            },
        }
        console.print_stdout(json.dumps(document, indent=1))
        return
    console.write_stdout("\n".join(report.to_text() for report in reports))
    if any(missing.values()):
        console.write_stdout("\nTo be declared in a `library_os` target before images can be built:\n")
        for name, inputs in missing.items():
            if inputs:
                console.write_stdout(f"  {name}: {', '.join(inputs)} ({library_oses[name].published})\n")


def _undeclared(library_os: LibraryOs, targets: LibraryOsTargets) -> list[str]:
    """The inputs that nothing brings, and that are not looked for on PATH."""
    declared = targets.inputs_of(library_os.name)
    return [name for name, item in library_os.inputs.items() if not item.default and name not in declared]


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *readiness.rules())
