from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unikernel.elf import read_elf_file
from unikernel.library_os import find_library_os
from unikernel.library_os.description import AppKind, Limits
from unikernel.library_os.requirements import Assessment, Program, Readiness, app_kind, assess, unprovided
from unikernel.rootfs.needs import Capability, Need
from unikernel.testing.programs import program

_LINUX, _NANOS, _UNIKRAFT, _PICOLIBC = map(find_library_os, ("linux", "nanos", "unikraft", "picolibc"))
_FORKS = Need(Capability.FORK, "subprocess", "x.y", "imported", certain=True)
_MAY_FORK = Need(Capability.FORK, "os.fork", "werkzeug.serving", "used", certain=False)
_THREADS = Need(Capability.THREADS, "pthread_create", "a", "linked into", certain=True)


def _program(*needs: Need, kind: AppKind = AppKind.DYNAMIC_PIE) -> Program:
    return Program("a", kind, needs)


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (["-static", "-no-pie"], AppKind.STATIC),
        (["-static-pie", "-fPIE"], AppKind.STATIC_PIE),
        (["-no-pie"], AppKind.DYNAMIC),
        (["-pie", "-fPIE"], AppKind.DYNAMIC_PIE),
        (["-no-pie", "-Wl,--dynamic-linker=/nonexistent/solo5/"], AppKind.SOLO5),
    ],
)
def test_kinds_of_programs(tmp_path: Path, flags: list[str], kind: AppKind) -> None:
    assert app_kind(read_elf_file(program(tmp_path / "a", *flags))) is kind


def test_what_a_library_os_provides_is_no_problem() -> None:
    assert assess(_LINUX, _program(_FORKS, _MAY_FORK, _THREADS)) == Assessment(Readiness.READY)
    assert assess(_NANOS, _program(_THREADS)) == Assessment(Readiness.READY)


def test_what_it_does_not_provide_is_said_with_who_asks() -> None:
    assessment = assess(_NANOS, _program(_FORKS))
    assert assessment.readiness is Readiness.NOT
    assert assessment.reasons == ("needs fork (subprocess imported by x.y), which nanos does not provide",)
    # More of one kind are counted.
    more = [replace(_FORKS, by=f"module{number}") for number in range(5)]
    assert assess(_NANOS, _program(*more)).reasons == (
        "needs fork (subprocess imported by module0; subprocess imported by module1; subprocess imported by module2; and 2 more), "
        "which nanos does not provide",
    )


def test_what_may_never_run_is_a_note() -> None:
    assert assess(_NANOS, _program(_MAY_FORK)) == Assessment(
        Readiness.READY, notes=("may need fork (os.fork used by werkzeug.serving)",)
    )


def test_what_an_image_does_without_does_not_count() -> None:
    assert assess(_NANOS, _program(_FORKS, _MAY_FORK), does_without=["fork"]) == Assessment(Readiness.READY)
    assert assess(_NANOS, _program(_FORKS), does_without=["exec"]).readiness is Readiness.NOT


def test_a_program_that_can_be_built_otherwise_needs_changes() -> None:
    assessment = assess(_UNIKRAFT, _program(kind=AppKind.STATIC))
    assert assessment.readiness is Readiness.CHANGES
    (reason,) = assessment.reasons
    assert reason.startswith(
        "a is a static program, and unikraft takes static-pie, dynamic-pie: build it so that it runs at any address"
    )
    assert assess(_UNIKRAFT, _program(_FORKS, kind=AppKind.STATIC)).readiness is Readiness.NOT
    assert assess(_UNIKRAFT, _program(kind=AppKind.SOLO5)).readiness is Readiness.NOT


def test_sources_are_compiled_and_programs_are_not() -> None:
    assert assess(_PICOLIBC, _program(kind=AppKind.STATIC), has_sources=True) == Assessment(Readiness.READY)
    assessment = assess(_PICOLIBC, _program(_THREADS, kind=AppKind.STATIC), has_sources=True)
    assert assessment.reasons == ("needs threads (pthread_create linked into a), which picolibc does not provide",)
    (reason,) = assess(_PICOLIBC, _program()).reasons
    assert reason == "a is compiled, and picolibc takes sources in C, which it compiles itself"


def test_every_limit_is_a_capability() -> None:
    assert set(vars(Limits())) == {capability.value for capability in Capability}
    assert unprovided(_LINUX) == []
    assert unprovided(_UNIKRAFT) == ["fork", "exec", "ipv6"]


def test_a_program_is_read_from_the_facts_of_layers() -> None:
    facts: list[dict[str, Any]] = [
        {"program": {"name": "a", "kind": "static"}, "needs": [_FORKS.to_document()]},
        {"needs": [_MAY_FORK.to_document()]},
        {},
    ]
    assert Program.of_facts(facts) == _program(_FORKS, _MAY_FORK, kind=AppKind.STATIC)
