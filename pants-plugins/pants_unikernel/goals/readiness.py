"""The goal `unikernel-readiness`: the library OSes that each service runs on, and reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pants.backend.python.target_types import PythonDistribution
from pants.base.specs import Specs
from pants.engine.console import Console
from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.rules import Rule, collect_rules, goal_rule
from pants.engine.target import AllTargets, Target
from pants.engine.unions import UnionRule
from pants.option.option_types import BoolOption, StrListOption

from pants_unikernel import engine
from pants_unikernel.cc.target_types import CCBinaryTarget
from pants_unikernel.goals.usage import usage
from pants_unikernel.image_types import Service, ServiceRequest, UnikernelImageFieldSet
from pants_unikernel.target_types import UnikernelImageLibraryOsField
from pants_unikernel.util_rules import readiness
from pants_unikernel.util_rules.failures import UnikernelBuildError
from pants_unikernel.util_rules.goal_specs import NamedTargets, find_named_targets, one_line
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_named, known_names
from pants_unikernel.util_rules.readiness import images_by_app
from unikernel.library_os import unknown_library_os
from unikernel.library_os.description import LibraryOs
from unikernel.library_os.requirements import Assessment, Readiness, assess

_NAME = "unikernel-readiness"
# They are packaged, and nothing of them starts by itself.
_NO_SERVICES = (PythonDistribution.alias,)
# A Docker engine has to build them: they are looked at where they are named, or have an image.
_ONLY_IF_NAMED = ("docker_image",)
_VERDICTS = {Readiness.READY: "ready", Readiness.CHANGES: "works with changes", Readiness.NOT: "cannot"}
_UNCHECKED = "cannot be checked"
_LONGEST_REASON = 160
# The words of a failed process, in its output as Pants prints it.
_ERROR = re.compile(r"(?:\bERROR|\b[Ee]rror|\b\w+Error|\b\w+Exception):\s*(?P<words>[^\n]+)")
_FIRST_WORDS = re.compile(r"^stderr:\s*(?P<words>\S[^\n]*)", re.MULTILINE)
_NO_SERVICE = "is not packaged as a service. Name a target that is, such as a `pex_binary`."


class UnikernelReadinessSubsystem(GoalSubsystem):
    name = _NAME
    help = (
        "Show which services run as unikernel images: as they are, with changes, or not, and the first reason. Packages the services. "
        f"`{_NAME} ::` prints a table; for one target, or with --details, all library OSes and all reasons follow."
    )

    details = BoolOption(default=False, help="Print each library OS and every reason for all services, not only for a single one.")
    json = BoolOption(default=False, help="Print JSON instead of text, with everything that --details has.")
    library_os = StrListOption(help="The library OSes to look at; all by default.")


class UnikernelReadiness(Goal):
    subsystem_cls = UnikernelReadinessSubsystem
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


@dataclass(frozen=True)
class _Report:
    """The assessments of one service, by library OS.

    `library_os` is the one that the service's image has, or would have: the verdict in the table is
    for that one.
    """

    service: Service
    library_os: str
    by_library_os: Mapping[str, Assessment]

    @property
    def address(self) -> str:
        return str(self.service.address)

    def to_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"address": self.address, "type": self.service.alias}
        if self.service.program is None:
            return {**document, "problem": one_line(self.service.problem)}
        return {
            **document,
            "program": {"name": self.service.program.name, "kind": self.service.program.kind.value},
            "library_oses": {
                name: {"readiness": item.readiness.value, "reasons": list(item.reasons), "notes": list(item.notes)}
                for name, item in self.by_library_os.items()
            },
        }

    def to_row(self) -> tuple[str, ...]:
        if self.service.program is None:
            return (self.address, self.library_os, _UNCHECKED, "", first_reason(self.service.problem, self.address))
        own = self.by_library_os[self.library_os]
        others = (name for name, item in self.by_library_os.items() if name != self.library_os)
        ready = [name for name in others if self.by_library_os[name].readiness is Readiness.READY]
        return (self.address, self.library_os, _VERDICTS[own.readiness], ", ".join(ready) or "-", *own.reasons[:1])

    def to_text(self) -> str:
        title = f"{self.address} ({self.service.alias})"
        if self.service.program is None:
            return f"{title}: {_UNCHECKED}: {one_line(self.service.problem)}\n"
        width = max(map(len, self.by_library_os))
        lines = [title]
        for name, item in self.by_library_os.items():
            words = "; ".join((*item.reasons, *item.notes))
            separator = ": " if item.reasons else ", but it " if words else ""
            lines.append(f"  {name:<{width}}  {_VERDICTS[item.readiness]}{separator}{words}")
        return "\n".join(lines) + "\n"


def first_reason(problem: str, address: str) -> str:
    """Return the first reason of a problem, short enough for a row of a table.

    A process's failure begins with its description, and has the tool's own words after that: those
    that follow "error:" come first.
    """
    while problem.startswith(f"{address}: "):
        problem = problem[len(address) + 2 :]
    process = re.match(r"Process '(?P<what>[^\n]*?)' failed with exit code \d+\.", problem)
    if process is not None:
        words = _ERROR.search(problem) or _FIRST_WORDS.search(problem)
        text = f"{process['what']} failed{': ' + words['words'] if words else ''}"
    else:
        text = problem
    text = one_line(text)
    sentence = re.match(r"(?P<first>.{20,}?[.;])\s(?=[A-Z])", text)
    text = sentence["first"].rstrip(".;") if sentence else text.rstrip(".")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON].rpartition(' ')[0]} ..."


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines with aligned columns; the last column takes the space that it needs."""
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(4)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths))
        yield "  ".join((*cells, *row[len(widths) :])).rstrip()


async def _library_oses(names: Collection[str], targets: LibraryOsTargets) -> dict[str, LibraryOs]:
    known = known_names(targets)
    for name in names:
        if name not in known:
            raise UnikernelBuildError(f"--{_NAME}-library-os: {unknown_library_os(name, known)}")
    return {name: (await describe_named(name, targets)).description for name in names or known}


async def _services(
    named: NamedTargets, images: Mapping[str, UnikernelImageFieldSet], all_targets: AllTargets
) -> tuple[list[Target], list[str]]:
    """Return the services among the named targets, and a line for each other one.

    A named image stands for its application. Only targets that are named by their addresses get a
    line.
    """
    apps = {image.address: app for app, image in images.items()}
    by_name = {str(target.address): target for target in all_targets}
    chosen: dict[Target, bool] = {}
    for target in named.targets:
        is_literal = target in named.literal
        if UnikernelImageFieldSet.is_applicable(target):
            target = by_name.get(apps.get(target.address, ""), target) if is_literal else target
        if target.alias not in _NO_SERVICES and not UnikernelImageFieldSet.is_applicable(target):
            chosen[target] = chosen.get(target, False) or is_literal
    field_sets = await engine.packageable_field_sets(chosen)
    services = []
    others: dict[str, str] = {}
    for (target, is_literal), found in zip(chosen.items(), field_sets.collection):
        if found and (target.alias not in _ONLY_IF_NAMED or is_literal or str(target.address) in images):
            services.append(target)
        elif is_literal:
            # Of a target that generates one for each file, one line.
            generator = target.address.maybe_convert_to_target_generator()
            others[str(generator)] = target.alias
    return services, [f"{name}: a `{alias}` {_NO_SERVICE}" for name, alias in others.items()]


async def _reports(
    services: Iterable[Target],
    images: Mapping[str, UnikernelImageFieldSet],
    library_oses: Mapping[str, LibraryOs],
) -> list[_Report]:
    analysed = await engine.analyse_services(
        ServiceRequest(target.address, images[str(target.address)].executable.value if str(target.address) in images else None)
        for target in services
    )
    reports = []
    for service in analysed:
        image = images.get(str(service.address))
        without = tuple(image.does_without.value or ()) if image is not None else ()
        own = image.library_os.value if image is not None else UnikernelImageLibraryOsField.default
        by_library_os = {
            name: assess(library_os, service.program, has_sources=service.alias == CCBinaryTarget.alias, does_without=without)
            for name, library_os in library_oses.items()
            if service.program is not None
        }
        reports.append(_Report(service, own if own in library_oses else next(iter(library_oses)), by_library_os))
    return reports


@goal_rule
async def report_readiness(
    console: Console,
    specs: Specs,
    all_targets: AllTargets,
    options: UnikernelReadinessSubsystem,
    library_os_targets: LibraryOsTargets,
) -> UnikernelReadiness:
    if not specs and not specs.includes.from_change_detection:
        console.print_stderr(usage(_NAME, "every service"))
        return UnikernelReadiness(exit_code=1)
    try:
        library_oses = await _library_oses(options.library_os, library_os_targets)
        images = await images_by_app(all_targets)
    except Exception as error:
        console.print_stderr(one_line(error))
        return UnikernelReadiness(exit_code=1)
    named = await find_named_targets(specs)
    services, others = await _services(named, images, all_targets)
    problems = (*named.problems, *others)
    if not services and not problems:
        if specs.includes.from_change_detection:
            console.print_stderr("No service is among what changed.")
            return UnikernelReadiness(exit_code=0)
        problems = (f"{_NAME}: none of the targets is packaged as a service, such as a `pex_binary`.",)
    if services:
        reports = await _reports(services, images, library_oses)
        is_single = len(reports) == 1 and bool(named.literal)
        _print(console, options, is_single or options.details, reports, library_oses, library_os_targets)
    for problem in problems:
        console.print_stderr(problem)
    return UnikernelReadiness(exit_code=1 if problems else 0)


def _print(
    console: Console,
    options: UnikernelReadinessSubsystem,
    with_details: bool,
    reports: Sequence[_Report],
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
    rows = [("service", "library OS", "verdict", "also ready on", "first reason"), *(report.to_row() for report in reports)]
    console.print_stdout("\n".join(table(rows)))
    if not with_details:
        return
    console.write_stdout("\n" + "\n".join(report.to_text() for report in reports))
    if any(missing.values()):
        console.write_stdout("\nTo be declared in a `library_os` target before images can be built:\n")
        for name, inputs in missing.items():
            if inputs:
                console.write_stdout(f"  {name}: {', '.join(inputs)} ({library_oses[name].published})\n")


def _undeclared(library_os: LibraryOs, targets: LibraryOsTargets) -> list[str]:
    """Return the inputs that nothing brings, and that are not looked for on PATH."""
    declared = targets.inputs_of(library_os.name)
    return [name for name, item in library_os.inputs.items() if not item.default and name not in declared]


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *readiness.rules())
