"""One application with each library OS that is on the machine: sizes, boot, requests, memory.

The root file system is the same for those that run programs: the sample service in C, and that in Python. Those that link have a program
that says one line.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark import markdown
from benchmark.image_sizes import sizes
from machine import free_port
from pants_project import PantsProject
from sample_services import make_services_project
from unikernel.errors import UnikernelError
from unikernel.image.manifest import read_manifest
from unikernel.image.spec import Port
from unikernel.library_os import library_os_of
from unikernel.run.machine import Machine
from unikernel.run.options import RunOptions

_MIB = 2**20
# The finest step in which the least memory is looked for.
_STEP = 2 * _MIB
_BOOT_SECONDS = 30
_REQUEST_SECONDS = 3
_SOLO5 = """\
#include "solo5.h"
int solo5_app_main(const struct solo5_start_info *information)
{
    (void)information;
    solo5_console_write("ready\\n", 6);
    for (;;)
        solo5_yield(solo5_clock_monotonic() + 1000000000, 0);
}
"""


@dataclass(frozen=True)
class Kernels:
    """Where real kernels are; None for those that are not on the machine."""

    unikraft: Path | None
    nanos: Path | None
    solo5: Path | None


@dataclass(frozen=True)
class Case:
    """`line` is what its console has when it is up; without a network there is nothing to ask. `path` is where what boots it is
    looked for.
    """

    app: str
    library_os: str
    image: Path
    line: bytes
    network: bool
    path: str = os.environ.get("PATH", os.defpath)


def add_kernel_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--unikraft", type=Path, help="a kernel of app-elfloader for qemu/x86_64")
    parser.add_argument("--nanos", type=Path, help="a directory with kernel.img, boot.img and mkfs")
    parser.add_argument("--solo5", type=Path, help="where Solo5 is installed: a directory with bin/")


def kernels_of(options: argparse.Namespace) -> Kernels:
    return Kernels(options.unikraft, options.nanos, options.solo5)


def measure_library_oses(kernels: Kernels, runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="unikernel-benchmark-") as scratch:
        with make_services_project(Path(scratch, "project")) as project:
            cases = _package(project, kernels)
            figures: dict[str, dict[str, Any]] = {}
            samples: dict[str, list[dict[str, float]]] = {}
            # In turn: machines are noisy.
            for _ in range(runs):
                for case in cases:
                    samples.setdefault(f"{case.app} {case.library_os}", []).append(_measure(case))
            for case in cases:
                measured = samples[f"{case.app} {case.library_os}"]
                medians = {name: round(statistics.median(sample[name] for sample in measured), 3) for name in measured[0]}
                up = max(value for name, value in medians.items() if name.startswith("first_"))
                least = _least_memory(case, 2 + 3 * up)
                figures.setdefault(case.app, {})[case.library_os] = {**sizes(case.image), **medians, "least_memory_mib": least}
            return figures


def table(figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """As Markdown."""
    columns = {
        "raw_mb": "raw, MB",
        "zstd_3_mb": "zstd -3, MB",
        "zstd_19_mb": "zstd -19, MB",
        "first_line_seconds": "first line, s",
        "first_200_seconds": "first 200, s",
        "requests_per_second": "requests/s",
        "least_memory_mib": "least memory, MiB",
    }
    rows = [["application", "library OS", *columns.values()]]
    for app, by_library_os in figures.items():
        for library_os, values in by_library_os.items():
            rows.append([app, library_os, *(str(values.get(name, "")) for name in columns)])
    return markdown.table(rows)


# --- images -------------------------------------------------------------------------------------------------------


def _package(project: PantsProject, kernels: Kernels) -> list[Case]:
    targets, programs = "", ["linux"]
    (project.root / "os").mkdir()
    if kernels.unikraft is not None:
        shutil.copyfile(kernels.unikraft, project.root / "os/unikraft")
        targets += (
            'file(name="unikraft_kernel", source="unikraft")\nlibrary_os(name="unikraft", inputs={"kernel": ":unikraft_kernel"})\n'
        )
        programs.append("unikraft")
    if kernels.nanos is not None:
        targets += nanos_targets(kernels.nanos, project.root / "os")
        programs.append("nanos")
    project.write("os/BUILD", targets)
    chosen = f"library_os=parametrize({', '.join(map(repr, programs))})"
    hello = project.root / "src/services/hello/BUILD"
    hello.write_text(
        'cc_sources(name="sources")\n'
        'cc_binary(name="hello", dependencies=[":sources"], link="static-pie")\n'
        f'unikernel_image(name="benchmark", app=":hello", {chosen})\n'
    )
    greeter = project.root / "src/services/greeter/BUILD"
    greeter.write_text(greeter.read_text() + f'unikernel_image(name="benchmark", app=":greeter", {chosen})\n')
    linked = ["src/services/sieve:unikernel"]
    environment = {}
    if kernels.solo5 is not None:
        project.write("src/services/line/line.c", _SOLO5)
        project.write(
            "src/services/line/BUILD",
            'cc_sources(name="sources")\n'
            + "".join(
                f'unikernel_image(name="{name}", app=":sources", library_os="{name}", network="none")\n'
                for name in ("solo5", "solo5-virtio")
            ),
        )
        linked += ["src/services/line:solo5", "src/services/line:solo5-virtio"]
        environment = {"PATH": f"{project.environment['PATH']}:{kernels.solo5 / 'bin'}"}
    images = [f"src/services/{app}:benchmark@library_os={name}" for app in ("hello", "greeter") for name in programs]
    status, printed = project.run("package", *images, *linked, environment=environment)
    if status != 0:
        raise SystemExit(printed)
    cases = [
        Case(app, name, _image(project, app, f"benchmark@library_os={name}"), b"listening", network=True)
        for app in ("hello", "greeter")
        for name in programs
    ]
    cases.append(Case("a line in C", "picolibc", _image(project, "sieve", "unikernel"), b"2 3", network=False))
    if kernels.solo5 is not None:
        path = f"{os.environ.get('PATH', os.defpath)}:{kernels.solo5 / 'bin'}"
        cases += [
            Case("a line in C", name, _image(project, "line", name), b"ready", network=False, path=path)
            for name in ("solo5", "solo5-virtio")
        ]
    return cases


def nanos_targets(nanos: Path, directory: Path) -> str:
    """For the BUILD file of a directory, into which its files are copied."""
    targets = ""
    for name in ("kernel.img", "boot.img", "mkfs"):
        shutil.copyfile(nanos / name, directory / name)
        targets += f'file(name="nanos_{name}", source="{name}")\n'
    inputs = '{"kernel": ":nanos_kernel.img", "boot": ":nanos_boot.img", "mkfs": ":nanos_mkfs"}'
    return f'{targets}library_os(name="nanos", inputs={inputs})\n'


def _image(project: PantsProject, directory: str, name: str) -> Path:
    (image,) = (
        path for path in (project.root / f"dist/src.services.{directory}").glob(f"{name}.*") if path.suffix in (".elf", ".img")
    )
    return image


# --- booting ------------------------------------------------------------------------------------------------------


class _Up:
    """When a machine that runs had the line."""

    def __init__(self, line: bytes) -> None:
        self.start = time.monotonic()
        self.seen = threading.Event()
        self.line_seconds = 0.0
        self._line = line
        self._printed: dict[str, bytes] = {}

    def write(self, stream: str, data: bytes) -> None:
        self._printed[stream] = self._printed.get(stream, b"") + data
        if not self.seen.is_set() and self._line in self._printed[stream]:
            self.line_seconds = time.monotonic() - self.start
            self.seen.set()


@contextmanager
def booted(case: Case, port: int, memory: int | None = None) -> Iterator[_Up]:
    """Under QEMU's own emulation: there are machines without anything faster."""
    manifest = read_manifest(case.image)
    description = next(iter(library_os_of(manifest).machines.values()))
    program = shutil.which(description.program, path=case.path)
    if program is None:
        raise SystemExit(f"There is no {description.program} on {case.path}.")
    ports = [Port(8080, port)] if case.network else []
    options = RunOptions(memory=memory, ports=ports, accelerator="tcg", program=program)
    up = _Up(case.line)
    with Machine(case.image, options, up):
        yield up


def _measure(case: Case) -> dict[str, float]:
    port = free_port()
    with booted(case, port) as up:
        if not case.network:
            if not up.seen.wait(_BOOT_SECONDS):
                raise SystemExit(f"{case.app} with {case.library_os} did not come up")
            return {"first_line_seconds": up.line_seconds}
        if not answers(port, _BOOT_SECONDS):
            raise SystemExit(f"{case.app} with {case.library_os} does not answer")
        first_answer = time.monotonic() - up.start
        count, start = 0, time.monotonic()
        while time.monotonic() - start < _REQUEST_SECONDS:
            count += answers(port, _BOOT_SECONDS)
        return {
            "first_line_seconds": up.line_seconds,
            "first_200_seconds": first_answer,
            "requests_per_second": count / (time.monotonic() - start),
        }


def answers(port: int, patience: float) -> bool:
    """Whether there is an HTTP 200, asked for again and again."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            # QEMU takes a connection before the guest has a network, and tries again only seconds later: ask anew.
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=0.25) as answer:
                return answer.status == 200
        except OSError:
            time.sleep(0.005)
    return False


def _least_memory(case: Case, patience: float) -> int:
    """MiB with which it comes up, and answers, within `patience` seconds: by halving."""
    enough, little = read_manifest(case.image).memory_bytes, 0
    while enough - little > _STEP:
        middle = (enough + little) // 2 // _MIB * _MIB
        if _comes_up(case, middle, patience):
            enough = middle
        else:
            little = middle
    return enough // _MIB


def _comes_up(case: Case, memory: int, patience: float) -> bool:
    port = free_port()
    try:
        with booted(case, port, memory) as up:
            return answers(port, patience) if case.network else up.seen.wait(patience)
    except UnikernelError:
        # Less than the library OS itself is known to need.
        return False
