"""What builds of monorepos cost, by the number of their services: with an image of each service, and of the same services without."""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pygal.style

from benchmark import markdown
from benchmark.pants_processes import daemon_seconds, finish, watched_memory
from monorepo import Service, make_monorepo, shared_source
from pants_project import PantsProject, completed_processes
from pants_store import store_of, stored_bytes

_GOAL = "services::"
_KERNEL = re.compile(r"Completed: Compile the Linux kernel")
# What a repository has: images beside the applications, or applications only.
VARIANTS = ("images", "applications")
# What else there is of one.
_NO_PHASES = {"services", "variant", "dist"}
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#000000")
_SECONDS = ("wall_seconds", "cpu_seconds")
# Of a service in C, and one in Python: both are there from two services on.
_LEAVES = {"c": Service(1), "python": Service(0)}


class Run:
    """One run of `pants package`. Seconds, bytes."""

    def __init__(self, project: PantsProject, store: Path, *, daemon: bool) -> None:
        stored = stored_bytes(store) if store.exists() else 0
        before = daemon_seconds(project)
        start = time.monotonic()
        process = project.start("--pantsd" if daemon else "--no-pantsd", "package", _GOAL)
        with watched_memory(process.pid, project) as memory:
            finished = finish(process, start)
        self.wall = finished.wall
        self.cpu = finished.cpu + daemon_seconds(project) - before
        self.processes = len(completed_processes(finished.printed))
        self.kernels = len(_KERNEL.findall(finished.printed))
        self.stored = stored_bytes(store) - stored
        self.memory = memory.most

    def to_document(self) -> dict[str, Any]:
        return {
            "wall_seconds": round(self.wall, 2),
            "cpu_seconds": round(self.cpu, 2),
            "processes": self.processes,
            "kernels_compiled": self.kernels,
            "stored_mb": round(self.stored / 1e6, 1),
            "peak_memory_mib": round(self.memory / 2**20),
        }


def measure_scale(
    counts: Sequence[int], runs: int, directory: Path | None = None, *, known: Sequence[Mapping[str, Any]] = ()
) -> Iterator[list[dict[str, Any]]]:
    """For each number of services, what each kind of change costs, with images and without, but for what is `known` already. Everything is in a
    scratch directory (tens of GB for a thousand services), or below `directory`, which need not be there. What is being measured goes to stderr:
    it takes hours.
    """
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    for count in unknown(counts, known):
        yield _measure(count, runs, directory)


def unknown(counts: Sequence[int], known: Sequence[Mapping[str, Any]]) -> list[int]:
    """The numbers of services that are to be measured."""
    cases = {(item["services"], item["variant"]) for item in known}
    return [count for count in counts if any((count, variant) not in cases for variant in VARIANTS)]


@dataclass
class _Repository:
    """`phases` has what is measured of it."""

    variant: str
    project: PantsProject
    store: Path
    phases: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, *, daemon: bool) -> Run:
        return Run(self.project, self.store, daemon=daemon)

    def change(self, source: str) -> None:
        """By a line that nobody has seen, and that changes what is compiled."""
        path = self.project.root / source
        number = time.time_ns()
        line = f"const long changed_{number} = 1;\n" if source.endswith(".c") else f"# {number}\n"
        path.write_text(path.read_text() + line)


def _measure(count: int, runs: int, directory: Path | None) -> list[dict[str, Any]]:
    """Both variants by turns, each with caches of its own: what a machine is slowed down by for some minutes makes no ratio."""
    scratch = Path(tempfile.mkdtemp(prefix="unikernel-scale-", dir=directory))
    try:
        with contextlib.ExitStack() as stack:
            repositories = []
            for variant in VARIANTS:
                cache = scratch / variant / "cache"
                project = make_monorepo(
                    scratch / variant / "repository",
                    count,
                    with_images=variant == "images",
                    environment={"XDG_CACHE_HOME": str(cache)},
                )
                repositories.append(_Repository(variant, stack.enter_context(project), store_of(cache)))
            _measure_phases(repositories, count, runs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [{"services": count, "variant": item.variant, **item.phases} for item in repositories]


def _measure_phases(repositories: Sequence[_Repository], count: int, runs: int) -> None:
    def measure(phase: str, run: Callable[[_Repository], Run], *, times: int = runs, only: str = "") -> None:
        measured = [item for item in repositories if not only or item.variant == only]
        documents: dict[str, list[dict[str, Any]]] = {item.variant: [] for item in measured}
        for number in range(times):
            print(f"{count} services: {phase}, {number + 1} of {times}", file=sys.stderr, flush=True)
            for item in measured:
                documents[item.variant].append(run(item).to_document())
        for item in measured:
            item.phases[phase] = _median(documents[item.variant])

    def run_changed(item: _Repository, source: str) -> Run:
        item.change(source)
        return item.run(daemon=True)

    measure("cold", lambda item: item.run(daemon=False), times=1)
    for item in repositories:
        item.phases["dist"] = _copied(item.project.root / "dist")
    measure("no_op_without_daemon", lambda item: item.run(daemon=False))
    for item in repositories:
        # The first one starts it.
        item.run(daemon=True)
    measure("no_op", lambda item: item.run(daemon=True))
    for language, service in _LEAVES.items():
        if service.number < count:
            measure(f"{language}_service_changed", partial(run_changed, source=service.source))
    library = shared_source(Service(count - 1).team, "c" if count > 1 else "py")
    measure("shared_library_changed", partial(run_changed, source=library))
    measure("kernel_option_of_one_changed", partial(_run_with_another_kernel, service=Service(count - 1)), times=1, only="images")


def _run_with_another_kernel(item: _Repository, service: Service) -> Run:
    """Nobody has this one: a kernel is compiled."""
    build = service.files(with_image=False)[f"{service.directory}/BUILD"]
    image = service.image_declaration(kernel_config='["CONFIG_LOG_BUF_SHIFT=13"]')
    item.project.write(f"{service.directory}/BUILD", f"{build}\n{image}")
    return item.run(daemon=True)


def _copied(dist: Path) -> dict[str, Any]:
    """What is written, and what a mere copy of it takes: Pants writes all packages in each run, also those that are there already."""
    copy = dist.with_name("dist.copy")
    start = time.monotonic()
    subprocess.run(["cp", "-r", str(dist), str(copy)], check=True)
    wall = time.monotonic() - start
    shutil.rmtree(copy)
    size = sum(path.stat().st_size for path in dist.rglob("*") if path.is_file())
    return {"wall_seconds": round(wall, 2), "written_mb": round(size / 1e6, 1)}


def _median(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: round(statistics.median(document[name] for document in documents), 2) for name in documents[0]}


# --- for people ---------------------------------------------------------------------------------------------------


def document(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"measured": list(measured), "ratios": ratios(measured)}


def ratios(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With images against without, for each number of services: of what both have. `beyond_no_op` is what a change costs beside a run without
    one, which is Pants' own work on its graph, and its writing of packages: wall and processor time with images, in seconds.
    """
    by_variant = {variant: {item["services"]: item for item in measured if item["variant"] == variant} for variant in VARIANTS}
    rows = []
    for count, images in sorted(by_variant["images"].items()):
        applications = by_variant["applications"].get(count, {})
        for phase in images:
            if phase in applications and phase not in _NO_PHASES:
                ours, theirs = images[phase]["wall_seconds"], applications[phase]["wall_seconds"]
                row = {"services": count, "phase": phase, "images": ours, "applications": theirs, "ratio": round(ours / theirs, 2)}
                if phase.endswith("_changed"):
                    row["beyond_no_op"] = [round(images[phase][name] - images["no_op"][name], 2) for name in _SECONDS]
                rows.append(row)
    return rows


def tables(measured: Sequence[Mapping[str, Any]]) -> str:
    """In Markdown: the wall times of all, and everything of what has most services."""
    counts = sorted({item["services"] for item in measured})
    by_case = {(item["services"], item["variant"]): item for item in measured}
    phases = [name for name in by_case[counts[-1], "images"] if name not in _NO_PHASES]
    rows = [["seconds, with images / without", *(f"{count:,}" for count in counts)]]
    for phase in phases:
        cases = [[by_case.get((count, variant), {}).get(phase) for variant in VARIANTS] for count in counts]
        rows.append([_words(phase), *(" / ".join(f"{case['wall_seconds']:.1f}" for case in pair if case) for pair in cases)])
    everything = [[f"with {counts[-1]:,} images", "wall, s", "processor, s", "processes", "kernels", "stored, MB", "memory, MiB"]]
    for phase in phases:
        figures = by_case[counts[-1], "images"][phase]
        everything.append([_words(phase), *(f"{figure:,.1f}".replace(".0", "") for figure in figures.values())])
    return f"{markdown.table(rows)}\n{markdown.table(everything)}"


def _words(phase: str) -> str:
    first, space, rest = phase.replace("_", " ").replace("no op", "no-op").partition(" ")
    return {"c": "C", "python": "Python"}.get(first, first) + space + rest


def plot(measured: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Wall time by the number of services, as SVG: a line for each phase and variant, both axes logarithmic."""
    counts = sorted({item["services"] for item in measured})
    phases = sorted({name for item in measured for name in item} - _NO_PHASES)
    colours = [_COLOURS[index % len(_COLOURS)] for index in range(len(phases)) for _ in VARIANTS]
    chart = pygal.XY(
        title="pants package: seconds by the number of services (dashed: without images)",
        x_title="services",
        y_title="seconds",
        logarithmic=True,
        xrange=(1, counts[-1]),
        height=800,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(VARIANTS),
        style=pygal.style.CleanStyle(colors=colours),
        no_prefix=True,
        js=(),
        disable_xml_declaration=True,
    )
    seconds = [item[phase]["wall_seconds"] for item in measured for phase in phases if phase in item]
    ticks = [digit * 10**power for power in range(-1, 5) for digit in (1, 2, 5)]
    chart.x_labels = counts
    chart.y_labels = [tick for tick in ticks if min(seconds) / 2 < tick < max(seconds) * 2]
    for phase in phases:
        for variant in VARIANTS:
            points = [
                (item["services"], item[phase]["wall_seconds"]) for item in measured if item["variant"] == variant and phase in item
            ]
            stroke = {"width": 2, "dasharray": "4, 4" if variant == "applications" else "none"}
            chart.add(f"{_words(phase)}, {variant}" if points else "", sorted(points), stroke_style=stroke)
    path.write_text(chart.render(is_unicode=True) + "\n")
