"""Measures what this project promises, and prints it as JSON: see docs/benchmark.md.

    ./pants run tests/benchmark/benchmark.py -- [--runs N] [--output FILE] [--only build|containers|kernels|library_oses|scale|start|tests]
        [--unikraft KERNEL] [--nanos DIRECTORY] [--solo5 DIRECTORY] [--services N,N,...] [--scratch DIRECTORY] [--plot FILE]
        [--resume]

Everything is measured in one run on one machine: compare ratios, not seconds. It uses your Pants caches, on a copy of the sample
services in a temporary directory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from benchmark import scale
from benchmark.bzimage import build_bzimage, extract_initrd
from benchmark.containers import measure_containers
from benchmark.image_sizes import sizes
from benchmark.image_tests import measure_many, measure_overhead
from benchmark.kernels import measure_kernels
from benchmark.library_oses import add_kernel_options, kernels_of, measure_library_oses, table
from benchmark.pants_processes import daemon_seconds, watched_memory
from benchmark.start import measure_start
from machine import free_port
from pants_project import PantsProject
from sample_services import make_services_project
from unikernel.digests import file_sha256
from unikernel.image.manifest import read_manifest
from unikernel.signing.files import SBOM_TYPES, manifest_path, sbom_path
from unikernel.signing.keys import Message, PrivateKey
from unikernel.signing.provenance import Artifact, Build
from unikernel.signing.sign import sign_image
from unikernel.signing.worktree import source_of_worktree
from unikernel.testing.signing import write_key

QEMU = ["qemu-system-x86_64", "-M", "microvm,acpi=off", "-accel", "tcg", "-cpu", "max", "-nodefaults", "-no-user-config"]
QEMU += ["-display", "none", "-serial", "stdio", "-no-reboot"]
# "12:34:56.78 [INFO] Starting: Link src/services/greeter:unikernel"
_STEP = re.compile(r"(\d+):(\d+):(\d+\.\d+) \[INFO\] (Starting|Completed): (.*)")
_SANDBOX = re.compile(r"Preserving local process execution dir (\S+) for (.*)")
# What follows after the application is packaged, up to the image.
_OURS = ("Link ", "Lay out ")
_SBOM = "List the components "
_RUN_INIT = re.compile(rb"\[ *(\d+\.\d+)\] Run /\.unikernel/init")
_ROOTFS = re.compile(rb"Root file system: \d+ KiB in place in (\d+) us")
_PATIENCE = 120


def seconds_of_steps(log: str) -> dict[str, float]:
    """The wall time of each process that Pants ran, by description, from its own log."""
    started: dict[str, float] = {}
    took: dict[str, float] = {}
    for hours, minutes, seconds, event, description in _STEP.findall(log):
        now = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if event == "Starting":
            started[description] = now
        elif description in started:
            took[description] = (now - started[description]) % 86400
    return took


def process_seconds(sandbox: Path) -> float:
    """The processor time of a step: it runs once more, in the sandbox that Pants kept."""
    process = subprocess.Popen([sandbox / "__run.sh"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{sandbox}/__run.sh failed")
    return usage.ru_utime + usage.ru_stime


def median_of(runs: int, measure: Callable[[], float]) -> dict[str, float]:
    values = sorted(measure() for _ in range(runs))
    return {"median": round(statistics.median(values), 3), "least": round(values[0], 3), "most": round(values[-1], 3)}


# --- building -----------------------------------------------------------------------------------------------------


def package(project: PantsProject, goal: str, *options: str) -> tuple[str, float]:
    """The log of a packaging run, and the most memory that its processes held together, in MiB."""
    process = project.start(*options, "package", goal)
    with watched_memory(process.pid, project) as memory:
        log, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit(log)
    return log, memory.most / 2**20


def signing_seconds(image: Path, project: PantsProject) -> float:
    """What the last step does inside Pants, once more, with another key: the commit is asked for, what is there does not fit, all is signed."""
    directory, name = image.parent, image.name
    manifest = (directory / manifest_path(name)).read_bytes()
    sboms = {kind: (directory / sbom_path(name, kind)).read_bytes() for kind in SBOM_TYPES}
    inputs = [Artifact(item["name"], item["sha256"]) for item in json.loads(manifest)["inputs"]]
    message = Message(bytes.fromhex(file_sha256(image)), image.read_bytes)
    key = write_key(project.root.parent / "key.pem")
    before = _own_seconds()
    source = source_of_worktree(project.root, "git", os.environ, ["dist", ".pants.d", ".pids"])
    build = Build("src/services/greeter:unikernel", {}, inputs, source, {"pants": "2.17.1"}, True)
    sign_image(name, message, manifest, sboms, build, PrivateKey.load(key, None), lambda file: (directory / file).read_bytes())
    return _own_seconds() - before


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure_edits(project: PantsProject, runs: int) -> dict[str, Any]:
    """One-line changes to the Python service, one after another."""
    source = project.root / "src/services/greeter/greeting.py"
    sandboxes = project.root.parent / "sandboxes"
    sandboxes.mkdir()
    options = ("--keep-sandboxes=always", f"--local-execution-root-dir={sandboxes}")
    # The first run only starts a Pants with these options.
    package(project, "src/services/greeter:unikernel", *options)
    samples: list[dict[str, float]] = []
    processes: list[str] = []
    memory = 0.0
    for run in range(runs):
        source.write_text(source.read_text() + f"# edit {run} at {time.time()}\n")
        before = daemon_seconds(project)
        log, held = package(project, "src/services/greeter:unikernel", *options)
        wall = seconds_of_steps(log)
        total = daemon_seconds(project) - before
        steps = (*_OURS, _SBOM)
        measured = {name: process_seconds(Path(sandbox)) for sandbox, name in _SANDBOX.findall(log) if name.startswith(steps)}
        cpu = {name: seconds for name, seconds in measured.items() if name.startswith(_OURS)}
        attesting = {
            "sbom_process_seconds": sum(measured.values()) - sum(cpu.values()),
            "signing_process_seconds": signing_seconds(project.root / "dist/src.services.greeter/unikernel.elf", project),
        }
        samples.append(
            {
                "final_link_process_seconds": sum(seconds for name, seconds in cpu.items() if name.startswith("Link ")),
                "final_link_wall_seconds": sum(seconds for name, seconds in wall.items() if name.startswith("Link ")),
                "edit_to_image_after_pex_process_seconds": sum(cpu.values()),
                "edit_to_image_after_pex_wall_seconds": sum(seconds for name, seconds in wall.items() if name.startswith(_OURS)),
                **attesting,
                "package_process_seconds": total,
                "signing_and_attesting_share": sum(attesting.values()) / (total - sum(attesting.values())),
            }
        )
        processes = sorted(wall)
        memory = max(memory, held)
    return {
        **{name: round(statistics.median(sample[name] for sample in samples), 3) for name in samples[0]},
        "processes_run_after_an_edit": processes,
        "kernel_compiled_after_an_edit": any("Compile the Linux kernel" in name for name in processes),
        "peak_memory_mib": round(memory),
    }


# --- booting ------------------------------------------------------------------------------------------------------


def seconds_to_line(command: list[str], text: bytes) -> float:
    """From the start of QEMU to the first line on the console that has `text`."""
    return seconds_until(command, lambda console: text in console)


def seconds_until(command: list[str], seen: Callable[[bytes], bool]) -> float:
    """From the start of QEMU to when the console has what `seen` looks for. It is asked whenever more is there."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    console = b""
    try:
        while not seen(console):
            ready, _, _ = select.select([process.stdout], [], [], _PATIENCE)
            data = os.read(process.stdout.fileno(), 65536) if ready else b""
            if not data:
                raise SystemExit(f"the machine ended, or nothing came any more:\n{console.decode(errors='replace')}")
            console += data
        return time.monotonic() - start
    finally:
        process.kill()
        process.wait()


def seconds_to_answer(image: Path, memory: str) -> tuple[float, float]:
    """From the start of QEMU to the first line that says that it listens, and to the first HTTP 200."""
    port = free_port()
    network = ["-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:8080", "-device", "virtio-net-device,netdev=n0"]
    start = time.monotonic()
    process = subprocess.Popen(
        [*QEMU, "-m", memory, "-kernel", str(image), *network], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    line: list[float] = []

    def read() -> None:
        assert process.stdout is not None
        for text in process.stdout:
            if b"listening" in text and not line:
                line.append(time.monotonic() - start)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while True:
            try:
                # QEMU takes a connection before the guest has a network, and tries again only seconds later: ask anew.
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=0.25) as answer:
                    if answer.status == 200:
                        return (line[0] if line else float("nan")), time.monotonic() - start
            except OSError:  # refused, reset, or timed out
                if time.monotonic() - start > _PATIENCE:
                    raise
                time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
        reader.join()


def measure_bzimage(image: Path, runs: int) -> dict[str, Any]:
    """An image against the same kernel as bzImage with the same root file system as initrd, in turn: machines are noisy."""
    command_line = read_manifest(image).command_line
    bzimage = build_bzimage(command_line)
    with tempfile.TemporaryDirectory(prefix="unikernel-benchmark-") as scratch:
        initrd = Path(scratch, "initrd")
        extract_initrd(image, initrd)
        commands = {
            "image": [*QEMU, "-m", "32", "-kernel", str(image)],
            "bzimage": [*QEMU, "-m", "32", "-kernel", str(bzimage), "-initrd", str(initrd), "-append", command_line],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                times[name].append(seconds_to_line(command, b"argument 0"))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "image_first_line": round(medians["image"], 3),
        "bzimage_first_line": round(medians["bzimage"], 3),
        "ratio": round(medians["image"] / medians["bzimage"], 3),
    }


def boot_breakdown(image: Path, memory: str, first_line: bytes, runs: int) -> dict[str, float]:
    """Where the time to the first line goes, in seconds (medians). The kernel prints its log for it, which takes some time itself."""
    samples = [_breakdown(image, memory, first_line) for _ in range(runs)]
    return {name: round(statistics.median(sample[name] for sample in samples), 3) for name in samples[0]}


def _breakdown(image: Path, memory: str, first_line: bytes) -> dict[str, float]:
    network = ["-netdev", "user,id=n0", "-device", "virtio-net-device,netdev=n0"]
    command = [*QEMU, "-m", memory, "-kernel", str(image), *network, "-append", "loglevel=7 printk.time=1"]
    started: list[float] = []
    console: list[bytes] = []

    def at_start_of_init(text: bytes) -> bool:
        if not started and _RUN_INIT.search(text):
            started.append(time.monotonic() - begin)
        console[:] = [text]
        return first_line in text

    begin = time.monotonic()
    total = seconds_until(command, at_start_of_init)
    run_init = _RUN_INIT.search(console[0])
    rootfs = _ROOTFS.search(console[0])
    if run_init is None or rootfs is None:
        raise SystemExit(f"the kernel's log is not as expected:\n{console[0].decode(errors='replace')}")
    kernel, laying_out = float(run_init[1]), int(rootfs[1]) / 10**6
    return {
        "qemu_firmware_and_loading": started[0] - kernel,
        "kernel": kernel - laying_out,
        "root_file_system": laying_out,
        "application": total - started[0],
    }


def measure_boots(dist: Path, runs: int) -> dict[str, Any]:
    arguments, hello, greeter = (dist / f"src.services.{name}/unikernel.elf" for name in ("arguments", "hello", "greeter"))
    answers = [seconds_to_answer(greeter, "128") for _ in range(runs)]
    c_answers = [seconds_to_answer(hello, "24") for _ in range(runs)]
    return {
        "c_first_line_without_network": median_of(
            runs, lambda: seconds_to_line([*QEMU, "-m", "32", "-kernel", str(arguments)], b"argument 0")
        ),
        "c_against_bzimage_and_initrd": measure_bzimage(arguments, runs),
        "c_breakdown": boot_breakdown(arguments, "32", b"argument 0", runs),
        "python_breakdown": boot_breakdown(greeter, "128", b"listening", runs),
        "c_service_first_line": round(statistics.median(line for line, _ in c_answers), 3),
        "c_service_first_200": round(statistics.median(answer for _, answer in c_answers), 3),
        "python_service_first_line": round(statistics.median(line for line, _ in answers), 3),
        "python_service_first_200": round(statistics.median(answer for _, answer in answers), 3),
    }


def main() -> None:
    # Starts are measured, too.
    PantsProject.has_usual_start = True
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="how often each thing is measured; medians are printed")
    parser.add_argument("--output", type=Path, help="write the JSON there as well")
    parts = ("build", "containers", "kernels", "library_oses", "scale", "start", "tests")
    parser.add_argument(
        "--only", choices=parts, help="measure only this part; by default all but kernels and scale, which take long"
    )
    parser.add_argument("--services", default="1,10,100,1000", help="how many services the monorepos have, for scale")
    parser.add_argument("--scratch", type=Path, help="where they are made, for scale: tens of GB for a thousand")
    parser.add_argument("--plot", type=Path, help="write a plot of scale there, as SVG")
    parser.add_argument(
        "--resume", action="store_true", help="keep what --output has of scale, which is written as it comes, and go on"
    )
    add_kernel_options(parser)
    options = parser.parse_args()
    if options.resume and not (options.only == "scale" and options.output):
        parser.error("--resume goes on with --only scale, from what --output names")
    figures: dict[str, Any] = {"machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0]}}
    if options.only in (None, "build"):
        figures.update(measure_services(options.runs))
    if options.only in (None, "tests"):
        figures["tests"] = measure_tests(options.runs)
    if options.only in (None, "start"):
        with tempfile.TemporaryDirectory(prefix="unikernel-benchmark-") as scratch:
            figures["start"] = measure_start(Path(scratch), options.runs)
    if options.only in (None, "library_oses"):
        figures["library_oses"] = measure_library_oses(kernels_of(options), options.runs)
    if options.only in (None, "containers"):
        figures["containers"] = measure_containers(kernels_of(options), options.runs)
    if options.only == "kernels":
        with tempfile.TemporaryDirectory(prefix="unikernel-benchmark-") as scratch:
            figures["kernels"] = measure_kernels(Path(scratch))
    if options.only == "scale":
        counts = [int(count) for count in options.services.split(",")]
        measured = _measured_before(options.output) if options.resume else []
        figures["scale"] = scale.document(measured)
        for items in scale.measure_scale(counts, options.runs, options.scratch, known=tuple(measured)):
            measured += items
            figures["scale"] = scale.document(measured)
            _write(figures, options.output)
        if options.plot:
            scale.plot(measured, options.plot)
    print(_write(figures, options.output), end="")
    if "library_oses" in figures:
        print(table(figures["library_oses"]), end="")
    if "scale" in figures:
        print(scale.tables(figures["scale"]["measured"]), end="")


def _measured_before(path: Path) -> list[dict[str, Any]]:
    """What an earlier run has measured of scale."""
    return list(json.loads(path.read_bytes())["scale"]["measured"]) if path.exists() else []


def _write(figures: Mapping[str, Any], path: Path | None) -> str:
    """As JSON, which is given back."""
    text = json.dumps(figures, indent=2) + "\n"
    if path is not None:
        path.write_text(text)
    return text


def measure_services(runs: int) -> dict[str, Any]:
    """Building, sizes and boots of the sample services with Linux."""
    with tempfile.TemporaryDirectory(prefix="unikernel-benchmark-") as scratch:
        with make_services_project(Path(scratch, "project")) as project:
            for command in (["init", "--quiet"], ["add", "src"], ["commit", "--quiet", "--message=All of it"]):
                subprocess.run(
                    ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *command], cwd=project.root, check=True
                )
            package(project, "src/services::")
            dist = project.root / "dist"
            return {
                "build": measure_edits(project, runs),
                "size": {name: sizes(dist / f"src.services.{name}/unikernel.elf") for name in ("arguments", "hello", "greeter")},
                "boot_seconds_tcg": measure_boots(dist, runs),
            }


def measure_tests(runs: int) -> dict[str, Any]:
    """Tests of images: what one costs beside QEMU, and many at once."""
    with tempfile.TemporaryDirectory(prefix="unikernel-benchmark-") as scratch:
        with make_services_project(Path(scratch, "project")) as project:
            package(project, "src/services/arguments:unikernel")
            image = project.root / "dist/src.services.arguments/unikernel.elf"
            bare = [*QEMU, "-m", "32", "-kernel", str(image)]
            return {
                "seconds": measure_overhead(image, Path(scratch), runs, lambda: seconds_to_line(bare, b"argument 0")),
                "many_at_once": measure_many(project),
            }


if __name__ == "__main__":
    main()
