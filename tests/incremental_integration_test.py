"""What is built again after a change, counted from Pants' own log: nothing that the change does not reach, and never a kernel."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pants_project import PantsProject, completed_processes
from sample_services import make_services_project

# Edits that nobody has made before: Pants would know their outcome.
_NEW = uuid.uuid4().hex
# Pants logs a process that it runs, and none whose result it has.
GREETER, WORDCOUNT = "src/services/greeter", "src/services/wordcount"
# What else is made of a service.
CONTAINER, PACKAGE = f"Make a container image of {GREETER}:unikernel", f"Make an OCI package of {GREETER}:unikernel"
FORMATS = {GREETER: {CONTAINER, PACKAGE}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    root = tmp_path_factory.mktemp("repository")
    with make_services_project(root) as project:
        (root / ".gitignore").write_text(".pants.d/\n.pids/\ndist/\n")
        for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "All of it"]):
            identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
            subprocess.run(["git", *identity, *arguments], cwd=root, check=True)
        project.succeed("package", "src/services::")
        yield project


def package_again(project: PantsProject) -> set[str]:
    """The descriptions of the processes that run."""
    return set(completed_processes(project.succeed("package", "src/services::")))


def append(project: PantsProject, path: str, line: str) -> None:
    file: Path = project.root / path
    file.write_text(file.read_text() + line + "\n")


def packaged(processes: set[str]) -> set[str]:
    """Those that lay out and link; the packaging of the PEX is Pants' own."""
    return {process for process in processes if not process.startswith(("Building ", "Extracting "))}


def laid_out_and_linked(service: str) -> set[str]:
    """No SBOM among it: what is in an image, besides its own code, is as it was."""
    name = service.rsplit("/", 1)[1]
    return {f"Lay out {service}:{name}", f"Link {service}:unikernel", *FORMATS.get(service, ())}


def test_nothing_runs_when_nothing_changed(project: PantsProject) -> None:
    assert package_again(project) == set()


def test_a_line_of_one_service_packages_lays_out_and_links_that_service(project: PantsProject) -> None:
    append(project, f"{GREETER}/greeting.py", f"# {_NEW}")
    processes = package_again(project)
    assert packaged(processes) == laid_out_and_linked(GREETER)
    assert {process for process in processes if "greeter.pex" in process}, processes
    assert not {process for process in processes if "wordcount" in process}


def test_a_line_of_the_shared_library_reaches_both_services_and_no_other(project: PantsProject) -> None:
    append(project, "src/services/web/server.py", f"# {_NEW}")
    assert packaged(package_again(project)) == laid_out_and_linked(GREETER) | laid_out_and_linked(WORDCOUNT)


def test_a_field_of_the_machine_only_links(project: PantsProject) -> None:
    build = project.root / f"{GREETER}/BUILD"
    build.write_text(build.read_text().replace('memory="128M"', 'memory="192M"'))
    assert package_again(project) == {f"Link {GREETER}:unikernel", PACKAGE}


def test_kernel_options_that_say_nothing_new_compile_no_kernel(project: PantsProject) -> None:
    """What the base configuration has already, in any order, and more than once."""
    build = project.root / f"{GREETER}/BUILD"
    before = build.read_text()
    for options in ('["CONFIG_EPOLL=y", "CONFIG_FUTEX=y"]', '["CONFIG_FUTEX=y", "CONFIG_EPOLL=y", "CONFIG_FUTEX=y"]'):
        build.write_text(before.replace('    ports=["8080"],', f'    ports=["8080"],\n    kernel_config={options},', 1))
        assert package_again(project) <= {"Configure the kernel"}
    build.write_text(before)


def test_a_c_service_is_compiled_linked_and_laid_out(project: PantsProject) -> None:
    append(project, "src/services/arguments/arguments.c", f"/* {_NEW} */")
    processes = package_again(project)
    assert {process for process in processes if "arguments" not in process} == set()
    # The object file is the same, so nothing after the compiler runs.
    assert not {process for process in processes if process.startswith(("Lay out", "Link src/services/arguments:unikernel"))}
    append(project, "src/services/arguments/arguments.c", f"int number_{_NEW} = 1;")
    processes = package_again(project)
    assert {"Lay out src/services/arguments:arguments", "Link src/services/arguments:unikernel"} <= processes
    assert {process for process in processes if "arguments" not in process} == set()


def test_changed_since_names_the_images_that_a_change_reaches(project: PantsProject) -> None:
    subprocess.run(["git", "checkout", "-q", "."], cwd=project.root, check=True)
    append(project, "src/services/web/server.py", "# a comment")
    listed = project.succeed("--changed-since=HEAD", "--changed-dependents=transitive", "list").splitlines()
    images = {address for address in listed if address.endswith(":unikernel")}
    assert images == {f"{GREETER}:unikernel", f"{WORDCOUNT}:unikernel"}
