"""Everything of a build by remote execution: with BuildGrid, and a worker of BuildBox's that has nothing but what an action brings and the
programs of this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pants_project import PantsProject, counters
from reapi_server import RemoteExecution
from sample_services import make_services_project

# Of C and of Python, with a kernel, container images and packages.
GOALS = ("src/services/greeter::", "src/services/hello::")


@dataclass(frozen=True)
class Remote:
    project: PantsProject
    server: RemoteExecution
    printed: str


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    directory = tmp_path_factory.mktemp("remote")
    with make_services_project(directory / "checkout", directory / "cache") as project, RemoteExecution(
        directory / "server"
    ) as server:
        printed = project.succeed("--no-pantsd", "--stats-log", *server.options, "package", *GOALS)
        yield Remote(project, server, printed)


_IMAGES = (".elf", ".container.tar")


def test_all_processes_run_there_and_make_the_same_images(remote: Remote, tmp_path_factory: pytest.TempPathFactory) -> None:
    counted = counters(remote.printed)
    assert counted["local_execution_requests"] == counted["remote_execution_errors"] == 0
    assert counted["remote_execution_success"] > 20
    assert "Completed: Compile the Linux kernel" in remote.printed
    with make_services_project(tmp_path_factory.mktemp("local") / "checkout") as local:
        local.succeed("package", *GOALS)
        assert len(local.digests(*_IMAGES)) == 3
        assert local.digests(*_IMAGES) == remote.project.digests(*_IMAGES)
    # Signed where the key is: on this machine.
    remote.project.succeed("unikernel-verify", *GOALS)


def test_no_action_and_no_input_has_a_path_of_the_machine_that_asks(remote: Remote) -> None:
    blobs = {file: file.read_bytes() for file in remote.server.storage.rglob("*") if file.is_file()}
    assert len(blobs) > 100
    for path in (remote.project.root, Path(remote.project.environment["XDG_CACHE_HOME"])):
        assert [file.name for file, content in blobs.items() if str(path).encode() in content] == []
