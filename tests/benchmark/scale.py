"""What builds of monorepos cost, by the number of their services: with an image of each service, and of the same services without."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
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
) -> Iterator[dict[str, Any]]:
    """For each number of services and each variant, what each kind of change costs, but for what is `known` already. Everything is in a scratch
    directory (tens of GB for a thousand services), or below `directory`. What is being measured goes to stderr: it takes hours.
    """
    for count, variant in unknown(counts, known):
        yield {"services": count, "variant": variant, **_measure(count, variant, runs, directory)}


def unknown(counts: Sequence[int], known: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """The numbers of services and the variants that are to be measured."""
    cases = {(item["services"], item["variant"]) for item in known}
    return [(count, variant) for count in counts for variant in VARIANTS if (count, variant) not in cases]


def _measure(count: int, variant: str, runs: int, directory: Path | None) -> dict[str, Any]:
    scratch = Path(tempfile.mkdtemp(prefix="unikernel-scale-", dir=directory))
    try:
        environment = {"XDG_CACHE_HOME": str(scratch / "cache")}
        with make_monorepo(scratch / "repository", count, with_images=variant == "images", environment=environment) as project:
            return _phases(project, store_of(scratch / "cache"), count, variant == "images", runs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _phases(project: PantsProject, store: Path, count: int, has_images: bool, runs: int) -> dict[str, Any]:
    phases: dict[str, dict[str, Any]] = {}

    def measure(name: str, run: Callable[[], Run], times: int = runs) -> None:
        print(f"{count} services, {'with' if has_images else 'without'} images: {name}", file=sys.stderr, flush=True)
        phases[name] = _median(run, times)

    measure("cold", lambda: Run(project, store, daemon=False), 1)
    phases["dist"] = _copied(project.root / "dist")
    measure("no_op_without_daemon", lambda: Run(project, store, daemon=False))
    # The first one starts it.
    Run(project, store, daemon=True)
    measure("no_op", lambda: Run(project, store, daemon=True))
    for language, service in _LEAVES.items():
        if service.number < count:
            measure(f"{language}_service_changed", _changing(project, store, service.source))
    library = shared_source(Service(count - 1).team, "c" if count > 1 else "py")
    measure("shared_library_changed", _changing(project, store, library))
    if has_images:
        service = Service(count - 1)
        # Nobody has this one: a kernel is compiled.
        build = service.files(with_image=False)[f"{service.directory}/BUILD"]
        image = service.image_declaration(kernel_config='["CONFIG_LOG_BUF_SHIFT=13"]')
        project.write(f"{service.directory}/BUILD", f"{build}\n{image}")
        measure("kernel_option_of_one_changed", lambda: Run(project, store, daemon=True), 1)
    return phases


def _copied(dist: Path) -> dict[str, Any]:
    """What is written, and what a mere copy of it takes: Pants writes all packages in each run, also those that are there already."""
    copy = dist.with_name("dist.copy")
    start = time.monotonic()
    subprocess.run(["cp", "-r", str(dist), str(copy)], check=True)
    wall = time.monotonic() - start
    shutil.rmtree(copy)
    size = sum(path.stat().st_size for path in dist.rglob("*") if path.is_file())
    return {"wall_seconds": round(wall, 2), "written_mb": round(size / 1e6, 1)}


def _changing(project: PantsProject, store: Path, source: str) -> Callable[[], Run]:
    """Each time, a line that nobody has seen, and that changes what is compiled."""

    def change() -> Run:
        path = project.root / source
        number = time.time_ns()
        line = f"const long changed_{number} = 1;\n" if source.endswith(".c") else f"# {number}\n"
        path.write_text(path.read_text() + line)
        return Run(project, store, daemon=True)

    return change


def _median(measure: Callable[[], Run], runs: int) -> dict[str, Any]:
    documents = [measure().to_document() for _ in range(runs)]
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
