"""Everything of a build by remote execution: with BuildGrid, and a worker of BuildBox's that has nothing but what an action brings and the
programs of this machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from reapi_server import RemoteExecution

from pants_project import PantsProject
from sample_services import make_services_project

# Of C and of Python, with a kernel, container images and packages.
GOALS = ("src/services/greeter::", "src/services/hello::")


@dataclass(frozen=True)
class Remote:
    project: PantsProject
    server: RemoteExecution
    printed: str

    def counters(self) -> dict[str, int]:
        """Pants' own, of its workunits."""
        return {name: int(count) for name, count in re.findall(r"^  (\w+): (\d+)$", self.printed, re.MULTILINE)}


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    directory = tmp_path_factory.mktemp("remote")
    with make_services_project(directory / "checkout", directory / "cache") as project, RemoteExecution(
        directory / "server"
    ) as server:
        printed = project.succeed("--no-pantsd", "--stats-log", *server.options, "package", *GOALS)
        yield Remote(project, server, printed)


def images(project: PantsProject) -> dict[str, str]:
    files = [path for path in project.dist() if path.endswith((".elf", ".container.tar"))]
    return {path: hashlib.sha256((project.root / "dist" / path).read_bytes()).hexdigest() for path in files}


def test_all_processes_run_there_and_make_the_same_images(remote: Remote, tmp_path_factory: pytest.TempPathFactory) -> None:
    counters = remote.counters()
    assert counters["local_execution_requests"] == counters["remote_execution_errors"] == 0
    assert counters["remote_execution_success"] > 20
    assert "Completed: Compile the Linux kernel" in remote.printed
    with make_services_project(tmp_path_factory.mktemp("local") / "checkout") as local:
        local.succeed("package", *GOALS)
        assert len(images(local)) == 3
        assert images(local) == images(remote.project)
    # Signed where the key is: on this machine.
    remote.project.succeed("unikernel-verify", *GOALS)


def test_no_action_and_no_input_has_a_path_of_the_machine_that_asks(remote: Remote) -> None:
    blobs = {file: file.read_bytes() for file in remote.server.storage.rglob("*") if file.is_file()}
    assert len(blobs) > 100
    for path in (remote.project.root, Path(remote.project.environment["XDG_CACHE_HOME"])):
        assert [file.name for file, content in blobs.items() if str(path).encode() in content] == []
