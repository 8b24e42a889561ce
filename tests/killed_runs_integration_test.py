"""Runs that meet in one checkout, or are killed: the next run succeeds, what is in dist/ is whole and verifiable at any time, and Pants' store
holds what its digests say.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from one_service import OneService

_KILLS = 20


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneService]:
    with OneService(tmp_path_factory.mktemp("one") / "repository") as repository:
        repository.package(daemon=True)
        yield repository


def test_two_runs_at_once(repository: OneService) -> None:
    for options in (["--no-pantsd"], ["--pantsd"], ["--pantsd", "--concurrent"]):
        repository.change()
        runs = [repository.project.start(*options, "package", "::") for _ in range(2)]
        for run in runs:
            printed, _ = run.communicate()
            assert run.returncode == 0, printed
        repository.check()


def test_runs_that_are_killed(repository: OneService) -> None:
    """At random moments of all that a changed service takes: compilers, the final link, the signature, the writing of dist/. Killed are, by
    turns, a run without a daemon, a run whose daemon lives on, and the daemon in the midst of a run.
    """
    generator = random.Random(7)
    moments = {option: moments_of_a_run(repository, option) for option in ("--no-pantsd", "--pantsd")}
    for number in range(_KILLS):
        repository.change()
        before = repository.image.read_bytes()
        option, whole_daemon = (("--no-pantsd", False), ("--pantsd", False), ("--pantsd", True))[number % 3]
        process = repository.project.start(option, "package", "::")
        time.sleep(generator.uniform(*moments[option]))
        if whole_daemon:
            repository.project.kill_daemon()
        else:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        left = repository.image.read_bytes()
        repository.package(daemon=True)
        assert left in (before, repository.image.read_bytes())


def moments_of_a_run(repository: OneService, option: str) -> tuple[float, float]:
    """Of a changed service: when its first process starts, and when it ends. Seconds after its own start."""
    repository.change()
    start = time.monotonic()
    process = repository.project.start(option, "package", "::")
    assert process.stdout is not None
    assert any("Starting: " in line for line in process.stdout)
    first = time.monotonic() - start
    process.communicate()
    assert process.returncode == 0
    return first, time.monotonic() - start
