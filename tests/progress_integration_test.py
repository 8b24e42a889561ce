"""The progress of a long step, as who runs Pants sees it: with a process that is as slow as it has to be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pants_project import PantsProject, completed_processes, plugin_configuration

_PLUGIN = '''\
import sys

from pants.engine.goal import Goal, GoalSubsystem
from pants.engine.process import Process
from pants.engine.rules import collect_rules, goal_rule

from pants_unikernel import engine
from pants_unikernel.subsystems.toolkit import toolkit_sources
from pants_unikernel.util_rules.progress import run_reporting_step

_STEP = """
import time
from unikernel.progress import Progress
progress = Progress.from_environment()
progress.report("unpacking")
for done in range(1, 5):
    time.sleep(1)
    progress.report(f"compiled {done} of 4 files")
"""


class Step(GoalSubsystem):
    name = "step"
    help = "Run a long step."


class StepGoal(Goal):
    subsystem_cls = Step
    environment_behavior = Goal.EnvironmentBehavior.LOCAL_ONLY


@goal_rule
async def step() -> StepGoal:
    process = Process(
        [sys.executable, "-c", _STEP],
        description="Run a long step",
        input_digest=await engine.create_digest(toolkit_sources("__init__.py", "progress.py")),
        env={"NONCE": NONCE},
    )
    await run_reporting_step(process, "the step")
    return StepGoal(exit_code=0)


def rules():
    return collect_rules()
'''
# Without the plugin, nobody knows its options.
_STEP = ("--no-verify-config", "step")
_LINE = re.compile(r"^(\d\d:\d\d:\d\d)\.\d\d \[INFO\] (unpacking|compiled \d of 4 files)$", re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PantsProject]:
    configuration = plugin_configuration(plugin="step_plugin").replace("pythonpath = [", 'pythonpath = ["%(buildroot)s/plugins", ')
    with PantsProject(tmp_path / "project", configuration=configuration) as project:
        # A process that no run before has had in its caches.
        project.write("plugins/step_plugin/register.py", _PLUGIN.replace("NONCE}", f"{str(tmp_path)!r}}}"))
        project.write("plugins/step_plugin/__init__.py", "")
        yield project


@pytest.mark.parametrize("daemon", ["--pantsd", "--no-pantsd"])
def test_progress_is_logged_while_the_step_runs_and_not_when_it_is_cached(project: PantsProject, daemon: str) -> None:
    printed = project.succeed(daemon, *_STEP)
    assert completed_processes(printed) == ["Run a long step"]
    lines = _LINE.findall(printed)
    assert [message for _, message in lines] == ["unpacking", *(f"compiled {done} of 4 files" for done in range(1, 5))]
    # Not all at once, at its end.
    assert len({time for time, _ in lines}) >= 3
    # Neither in the same daemon, nor in a new one.
    assert not _LINE.search(project.succeed(daemon, *_STEP))
    project.kill_daemon()
    printed = project.succeed(daemon, *_STEP)
    assert not completed_processes(printed)
    assert not _LINE.search(printed)


def test_a_step_without_a_place_to_report_to_runs_all_the_same(project: PantsProject) -> None:
    """As on a machine of remote execution: the directory is not there."""
    plugin = (project.root / "plugins/step_plugin/register.py").read_text()
    lost = plugin.replace("Progress.from_environment()", 'Progress("nowhere/step")')
    project.write("plugins/step_plugin/register.py", lost)
    printed = project.succeed("--no-pantsd", *_STEP)
    assert completed_processes(printed) == ["Run a long step"]
    assert not _LINE.search(printed)
