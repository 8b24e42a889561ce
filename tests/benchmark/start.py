"""What Pants' start without a daemon costs, with and without this plugin: each start imports all backends, and solves the graph of their rules."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.pants_processes import finish
from pants_project import PYTHON_BACKEND, PantsProject, plugin_configuration

# Of the graph's solution, logged once in a thousand. Pants solves another one before, to look up plugins with.
_STEPS = re.compile(r"rule_graph monomorphize: iteration (\d+):")
# Without the plugin, nobody knows its options.
_LIST = ("--no-pantsd", "--no-verify-config", "list", "::")
_VARIANTS = {
    "python": plugin_configuration(PYTHON_BACKEND).replace(', "pants_unikernel"', ""),
    "python_and_plugin": plugin_configuration(PYTHON_BACKEND),
}


def measure_start(scratch: Path, runs: int) -> dict[str, Any]:
    """Of `pants list ::` in a repository with one target: wall and processor time in seconds (medians; in turn), and the steps in which the
    graph is solved, which are the same on each machine to within one in a hundred.
    """
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in _VARIANTS}
    projects = {name: PantsProject(scratch / name, configuration=configuration) for name, configuration in _VARIANTS.items()}
    for project in projects.values():
        project.write("BUILD", 'files(name="files", sources=["pants.toml"])\n')
        _list(project)
    for _ in range(runs):
        for name, project in projects.items():
            samples[name].append(_list(project))
    figures: dict[str, Any] = {}
    for name, project in projects.items():
        wall, cpu = (statistics.median(sample) for sample in zip(*samples[name]))
        steps = _STEPS.findall(project.succeed("--level=trace", *_LIST))
        figures[name] = {"wall_seconds": round(wall, 2), "cpu_seconds": round(cpu, 2), "graph_steps": int(steps[-1])}
    return {**figures, "ratio": _ratios(figures["python_and_plugin"], figures["python"])}


def _ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    return {name: round(ours[name] / theirs[name], 2) for name in ours}


def _list(project: PantsProject) -> tuple[float, float]:
    start = time.monotonic()
    finished = finish(project.start(*_LIST), start)
    return finished.wall, finished.cpu
