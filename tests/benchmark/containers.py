"""The same service and the same change, as a unikernel and as a container: what a team has today, with a real Docker engine.

Four ways from an edited line to something that can be shipped, all on what is there already from before:

- `unikernel`: `pants package` of a `unikernel_image`;
- `pants_docker_image`: `pants package` of a `docker_image` with the PEX on a base image, which has the interpreter;
- `docker_build`: `docker build` of the unikernel's own root file system, without Pants: a layer for the application's files, one for all else;
- `nanos`: `pants package` of an image that Nanos' `mkfs` makes, where it is on the machine.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

import psutil

from benchmark.image_sizes import sizes
from benchmark.library_oses import Case, Kernels, answers, booted, nanos_targets
from machine import free_port
from pants_project import PantsProject
from sample_services import make_services_project
from unikernel.testing.docker_engine import DockerEngine, running_docker_engine

_SERVICE = "src/services/greeter"
_SOURCE = f"{_SERVICE}/greeting.py"
_IMAGE = f"dist/{_SERVICE.replace('/', '.')}/unikernel.elf"
_PATIENCE_SECONDS = 120
_MIB = 2**20
_DOCKER_TARGET = """
docker_image(
    name="docker",
    instructions=[
        "FROM base:local",
        "COPY src.services.greeter/greeter.pex /greeter.pex",
        'ENTRYPOINT ["{python}", "/greeter.pex"]',
    ],
    dependencies=[":greeter"],
)
"""


def measure_containers(kernels: Kernels, runs: int) -> dict[str, Any]:
    """Seconds, MB and MiB, medians of as many runs, by way."""
    with tempfile.TemporaryDirectory(prefix="unikernel-benchmark-") as name, running_docker_engine(Path(name, "docker")) as engine:
        with _project(Path(name, "project"), engine, kernels) as project:
            return _measure(project, engine, kernels, Path(name), runs)


def _measure(project: PantsProject, engine: DockerEngine, kernels: Kernels, scratch: Path, runs: int) -> dict[str, Any]:
    project.succeed("package", f"{_SERVICE}:unikernel")
    context, python = _docker_context(project, engine, scratch)
    build = project.root / _SERVICE / "BUILD"
    build.write_text(build.read_text() + _DOCKER_TARGET.format(python=python))
    ways: dict[str, Callable[[], object]] = {
        "unikernel": lambda: project.succeed("package", f"{_SERVICE}:unikernel"),
        "pants_docker_image": lambda: project.succeed("package", f"{_SERVICE}:docker"),
        "docker_build": lambda: engine.build(context, "--tag=rootfs:local"),
    }
    if kernels.nanos is not None:
        ways["nanos"] = lambda: project.succeed("package", f"{_SERVICE}:nanos")
    seconds = _edit_in_turn(ways, [project.root / _SOURCE, next((context / "app").rglob("greeting.py"))], runs)
    figures: dict[str, dict[str, Any]] = {way: {"edit_to_image_seconds": value} for way, value in seconds.items()}
    figures["unikernel"].update({**sizes(project.root / _IMAGE), **_unikernel(project.root / _IMAGE, runs)})
    for way, name in (("docker_build", "rootfs:local"), ("pants_docker_image", "docker:latest")):
        figures[way].update({**_docker_sizes(engine, name, scratch), **_container(engine, name, runs)})
    if kernels.nanos is not None:
        figures["nanos"].update(sizes(project.root / _IMAGE.replace("unikernel.elf", "nanos.img")))
    return figures


def _project(root: Path, engine: DockerEngine, kernels: Kernels) -> PantsProject:
    project = make_services_project(root)
    configuration = (root / "pants.toml").read_text().replace('"pants_unikernel"]', '"pants_unikernel", "pants.backend.docker"]')
    variables = [f"{name}={value}" for name, value in engine.environment.items()]
    project.write("pants.toml", f"{configuration}\n[docker]\nenv_vars = {variables}\n")
    build = (root / _SERVICE / "BUILD").read_text().replace('    formats=["elf", "container", "oci"],\n', "")
    if kernels.nanos is not None:
        (root / "os").mkdir()
        project.write("os/BUILD", nanos_targets(kernels.nanos, root / "os"))
        build += '\nunikernel_image(name="nanos", app=":greeter", library_os="nanos", memory="256M", ports=["8080"])\n'
    project.write(f"{_SERVICE}/BUILD", build)
    return project


def _docker_context(project: PantsProject, engine: DockerEngine, scratch: Path) -> tuple[Path, str]:
    """The unikernel's root file system, as the context of a `docker build`, and the path of its interpreter; and `base:local`, which has all
    of it but the application.
    """
    project.write(
        "container/BUILD",
        f'unikernel_image(name="container", app="//{_SERVICE}:greeter", memory="128M", formats=["elf", "container"])\n',
    )
    project.succeed("package", "container:container")
    loaded = engine.docker("load", f"--input={project.root / 'dist/container/container.container.tar'}").rpartition(": ")[2]
    created, context = engine.docker("create", loaded), scratch / "context"
    (context / "rest").mkdir(parents=True)
    archive = scratch / "rootfs.tar"
    engine.docker("export", f"--output={archive}", created)
    with tarfile.open(archive) as rootfs:
        rootfs.extractall(context / "rest")
    code = next((context / "rest").rglob("greeting.py")).parents[len(Path(_SOURCE).parts) - 3]
    where = code.relative_to(context / "rest")
    shutil.move(str(code), context / "app")
    configuration = engine.docker(
        "inspect", "--format={{json .Config.Entrypoint}}\n{{json .Config.Env}}\n{{.Config.WorkingDir}}", loaded
    )
    entrypoint, environment, directory = configuration.splitlines()
    variables = "".join(f"ENV {variable}\n" for variable in _quoted(environment))
    end = f"{variables}WORKDIR {directory or '/'}\nENTRYPOINT {entrypoint}\n"
    (context / "Dockerfile").write_text(f"FROM scratch\nCOPY rest/ /\nCOPY app/ /{where}/\n{end}")
    with tarfile.open(scratch / "base.tar", "w") as base:
        base.add(context / "rest", arcname=".")
    engine.docker("import", str(scratch / "base.tar"), "base:local")
    return context, json.loads(entrypoint)[0]


def _quoted(environment: str) -> list[str]:
    return [f'{name}="{value}"' for name, _, value in (variable.partition("=") for variable in json.loads(environment) or ())]


def _edit_in_turn(ways: Mapping[str, Callable[[], object]], sources: list[Path], runs: int) -> dict[str, float]:
    """Medians. Each way sees each change once; the first change only warms everything up."""
    samples: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(runs + 1):
        line = f"# {time.time_ns()}\n"
        for source in sources:
            source.write_text(source.read_text() + line)
        for way, build in ways.items():
            start = time.monotonic()
            build()
            samples[way].append(time.monotonic() - start)
    return {way: round(statistics.median(values[1:]), 2) for way, values in samples.items()}


def _docker_sizes(engine: DockerEngine, name: str, scratch: Path) -> dict[str, float]:
    """As `docker save` writes it, and that compressed."""
    archive = scratch / "saved.tar"
    engine.docker("save", f"--output={archive}", name)
    return sizes(archive)


def _unikernel(image: Path, runs: int) -> dict[str, float]:
    case = Case("greeter", "linux", image, b"listening", network=True)
    seconds, memory = [], []
    for _ in range(runs):
        port = free_port()
        with booted(case, port) as up:
            seconds.append(_seconds_to_answer(up.start, port))
            children = psutil.Process().children()
            memory.append(_memory_mib(child for child in children if child.name().startswith("qemu")))
    return _medians(seconds, memory)


def _container(engine: DockerEngine, name: str, runs: int) -> dict[str, float]:
    seconds, memory = [], []
    for _ in range(runs):
        start = time.monotonic()
        container = engine.docker("run", "--detach", "--network=host", name)
        try:
            seconds.append(_seconds_to_answer(start, 8080))
            process = psutil.Process(int(engine.docker("inspect", "--format={{.State.Pid}}", container)))
            memory.append(_memory_mib([process, *process.children(recursive=True)]))
        finally:
            engine.docker("rm", "--force", container)
    return _medians(seconds, memory)


def _seconds_to_answer(start: float, port: int) -> float:
    if not answers(port, _PATIENCE_SECONDS):
        raise SystemExit("the service does not answer")
    return time.monotonic() - start


def _memory_mib(processes: Iterable[psutil.Process]) -> float:
    """Proportional set sizes: what is shared counts once."""
    return sum(process.memory_full_info().pss for process in processes) / _MIB


def _medians(seconds: Sequence[float], memory: Sequence[float]) -> dict[str, float]:
    return {"first_200_seconds": round(statistics.median(seconds), 2), "memory_mib": round(statistics.median(memory), 1)}
