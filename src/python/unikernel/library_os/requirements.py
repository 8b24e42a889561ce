"""Holds an application against what a library OS can do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from unikernel.elf import ElfFacts, ElfKind
from unikernel.library_os.description import AppKind, LibraryOs, Limits
from unikernel.rootfs.needs import Need

# The PT_INTERP of what is linked with Solo5 (its linker scripts).
_SOLO5_INTERPRETER = "/nonexistent/solo5/"
_SHOWN = 3
_PREPOSITION = {"imported": "by ", "used": "by ", "linked into": ""}


def app_kind(facts: ElfFacts) -> AppKind:
    """Of a program."""
    if facts.interpreter == _SOLO5_INTERPRETER:
        return AppKind.SOLO5
    if facts.kind is ElfKind.DYNAMIC:
        return AppKind.DYNAMIC_PIE if facts.is_relocatable else AppKind.DYNAMIC
    return AppKind.STATIC_PIE if facts.kind is ElfKind.STATIC_PIE else AppKind.STATIC


@dataclass(frozen=True)
class Program:
    """What starts: its name, and its kind. `needs` are the application's, with those of what it brings along."""

    name: str
    kind: AppKind
    needs: tuple[Need, ...]

    @classmethod
    def of_facts(cls, facts: Iterable[Mapping[str, Any]]) -> Program:
        """Of the facts in the indexes of an application's layers, its own first."""
        facts = tuple(facts)
        program = facts[0]["program"]
        needs = (Need.of_document(document) for each in facts for document in each.get("needs", ()))
        return cls(program["name"], AppKind(program["kind"]), tuple(needs))


class Readiness(str, Enum):
    READY = "ready"
    CHANGES = "ready with changes"
    NOT = "not ready"


@dataclass(frozen=True)
class Assessment:
    """`reasons` are why it is not ready as it is; `notes` are needs that may never come up."""

    readiness: Readiness
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def assess(library_os: LibraryOs, program: Program, *, has_sources: bool = False, does_without: Collection[str] = ()) -> Assessment:
    """`has_sources` tells that a library OS can compile the program; `does_without` are capabilities that it never uses."""
    unmet = _unmet_needs(library_os.limits, program.needs, does_without)
    lacking = _joined(need for need in unmet if need.certain)
    notes = tuple(f"may need {text}" for text in _joined(need for need in unmet if not need.certain))
    reasons = [f"needs {text}, which {library_os.name} does not provide" for text in lacking]
    if library_os.takes == (AppKind.SOURCES,):
        if not has_sources:
            reasons.append(f"{program.name} is compiled, and {library_os.name} takes sources in C, which it compiles itself")
        return Assessment(Readiness.NOT if reasons else Readiness.READY, tuple(reasons), notes)
    if program.kind not in library_os.takes:
        advice = _advice(library_os.takes, program.kind)
        problem = (
            f"{program.name} is a {program.kind.value} program, and {library_os.name} takes {_names(library_os.takes)}{advice}"
        )
        readiness = Readiness.CHANGES if advice and not reasons else Readiness.NOT
        return Assessment(readiness, (*reasons, problem), notes)
    return Assessment(Readiness.NOT if reasons else Readiness.READY, tuple(reasons), notes)


def unprovided(library_os: LibraryOs) -> list[str]:
    """The capabilities that the library OS does not have."""
    return [name for name, provided in vars(library_os.limits).items() if not provided]


def _names(kinds: Iterable[AppKind]) -> str:
    return ", ".join(kind.value for kind in kinds)


def _advice(takes: Sequence[AppKind], kind: AppKind) -> str:
    if kind is AppKind.STATIC and AppKind.STATIC_PIE in takes:
        return ': build it so that it runs at any address (of a `cc_binary`, link="static-pie")'
    if kind is AppKind.DYNAMIC and AppKind.DYNAMIC_PIE in takes:
        return ': build it so that it runs at any address (of a `cc_binary`, link="dynamic")'
    return ""


def _unmet_needs(limits: Limits, needs: Iterable[Need], does_without: Collection[str]) -> list[Need]:
    return [need for need in needs if not getattr(limits, need.capability.value) and need.capability.value not in does_without]


def _joined(needs: Iterable[Need]) -> list[str]:
    """One text for each capability: who asks for it, the first few."""
    by_capability: dict[str, list[str]] = {}
    for need in sorted(set(needs)):
        by_capability.setdefault(need.capability.value, []).append(f"{need.what} {need.how} {_PREPOSITION[need.how]}{need.by}")
    return [f"{name} ({'; '.join(asks[:_SHOWN])}{_more(asks)})" for name, asks in by_capability.items()]


def _more(asks: Sequence[str]) -> str:
    return f"; and {len(asks) - _SHOWN} more" if len(asks) > _SHOWN else ""
