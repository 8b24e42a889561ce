"""A Docker engine of a test's own: a real `dockerd`, which needs root.

It has no network of its own: containers run with `--network=host`. There is no registry: images are built `FROM scratch`, or imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_PATIENCE = 60.0
# Not $TMPDIR: the path of a socket has at most 108 bytes (unix(7)).
_TEMPORARY = "/tmp"
_MOUNT_POINT = 4


@dataclass(frozen=True)
class DockerEngine:
    """`environment` is what a client needs to find it. `directory` has its socket and its log."""

    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.directory}/docker.sock", "DOCKER_CONFIG": str(self.directory / "config")}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`docker` with these arguments, whether it fails or not."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            ["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment
        )

    def docker(self, *arguments: str) -> str:
        """What `docker` prints, without the end of its last line. Raises AssertionError with its errors when it fails."""
        result = self.run(*arguments)
        assert result.returncode == 0, f"docker {' '.join(arguments)}: {result.stderr}{result.stdout}"
        return result.stdout.strip()

    def build(self, context: Path, *options: str) -> str:
        """The id ("sha256:...") of the image that the Dockerfile in a directory makes."""
        return self.docker("build", "--quiet", "--network=host", *options, str(context)).splitlines()[-1]


@contextmanager
def running_docker_engine(data: Path) -> Iterator[DockerEngine]:
    """An engine that answers, with its images in the directory `data`, which need not be there. When the block ends, nothing of it is
    left: neither processes and mounts, nor files.
    """
    directory = Path(tempfile.mkdtemp(prefix="docker-", dir=_TEMPORARY))
    engine = DockerEngine(directory)
    (directory / "config").mkdir()
    # The machine's own does not count.
    (directory / "daemon.json").write_text("{}\n")
    try:
        with (directory / "log").open("wb") as log:
            command = _command(directory, data.absolute())
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(engine, daemon)
            yield engine
        finally:
            _stop(engine, daemon)
    finally:
        for root in (directory, data.absolute()):
            _remove(root)


def _command(directory: Path, data: Path) -> list[str]:
    return [
        "dockerd",
        f"--data-root={data}",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/pid",
        f"--config-file={directory}/daemon.json",
        f"--host=unix://{directory}/docker.sock",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
        "--storage-driver=vfs",
    ]


def _wait(engine: DockerEngine, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while engine.run("version").returncode != 0:
        if daemon.poll() is not None or time.monotonic() > deadline:
            log = (engine.directory / "log").read_text(errors="replace")
            raise AssertionError(f"dockerd does not come up:\n{log}")
        time.sleep(0.1)


def _stop(engine: DockerEngine, daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None:
        containers = engine.run("ps", "--all", "--quiet").stdout.split()
        if containers:
            engine.run("rm", "--force", "--volumes", *containers)
        daemon.terminate()
    try:
        daemon.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    # containerd, and what keeps containers, have the directory on their command lines.
    for process in psutil.process_iter():
        try:
            if any(str(engine.directory) in word for word in process.cmdline()) and process.pid != os.getpid():
                for each in (process, *process.children(recursive=True)):
                    each.kill()
        except psutil.Error:
            pass


def _remove(directory: Path) -> None:
    mounts = [line.split()[_MOUNT_POINT] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    # The directory itself, too: dockerd mounts its data's on itself where mounts do not propagate.
    for mount in sorted((mount for mount in mounts if f"{mount}/".startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)
    if directory.exists():
        shutil.rmtree(directory)
