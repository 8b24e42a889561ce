"""`pants tailor` in a repository that has applications, and images of some of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pants_project import DOCKER_BACKEND, PYTHON_BACKEND, PantsProject, plugin_configuration

_C = 'cc_sources(name="sources")\n'
_MAIN = "int main(void) { return 0; }\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PantsProject]:
    configuration = plugin_configuration(PYTHON_BACKEND, DOCKER_BACKEND)
    with PantsProject(tmp_path / "repository", configuration=configuration) as project:
        project.write("python/main.py", 'print("hello")\n')
        project.write("python/BUILD", 'python_sources(name="sources")\npex_binary(name="job", entry_point="main.py")\n')
        project.write("c/main.c", _MAIN)
        project.write(
            "c/BUILD", f'{_C}cc_binary(name="one", dependencies=[":sources"])\ncc_binary(name="two", dependencies=[":sources"])\n'
        )
        project.write("docker/Dockerfile", "FROM scratch\nCOPY nothing /\n")
        project.write("docker/BUILD", 'docker_image(name="server")\n')
        # It has an image, elsewhere.
        project.write("done/main.c", _MAIN)
        project.write("done/BUILD", f'{_C}cc_binary(name="app", dependencies=[":sources"])\n')
        project.write("images/BUILD", 'unikernel_image(name="done", app="//done:app", network="none")\n')
        # Programs of 32 bits start on no library OS that we have.
        project.write("old/main.c", "void _start(void) { for (;;) ; }\n")
        project.write(
            "old/BUILD",
            f'{_C}cc_binary(name="app", dependencies=[":sources"], compile_flags=["-m32", "-ffreestanding"],\n'
            '    link="static", link_flags=["-m32", "-nostdlib"])\n',
        )
        yield project


def test_an_image_is_proposed_beside_each_application_that_has_none_and_can_work(project: PantsProject) -> None:
    status, printed = project.run("tailor", "--check", "::")
    assert status == 1 and "Would update python/BUILD" in printed, printed
    assert "old/BUILD" not in printed and "is not proposed" not in printed, printed
    readiness = project.succeed("unikernel-readiness", "--library-os=linux", "old:app")
    assert "old:app (cc_binary): cannot be looked at: old:app: app is compiled for i386 (32 bits)" in readiness
    project.succeed("tailor", "::")
    assert 'unikernel_image(\n    name="unikernel",\n    app=":job",\n)\n' in (project.root / "python/BUILD").read_text()
    assert 'unikernel_image(\n    name="unikernel",\n    app=":server",\n)\n' in (project.root / "docker/BUILD").read_text()
    two = (project.root / "c/BUILD").read_text()
    assert 'name="one-unikernel",\n    app=":one",' in two and 'name="two-unikernel",\n    app=":two",' in two
    assert "unikernel_image" not in (project.root / "done/BUILD").read_text()
    assert "unikernel_image" not in (project.root / "old/BUILD").read_text()
    # What it has proposed is there now, and is packaged.
    project.succeed("tailor", "--check", "::")
    project.succeed("package", "python:unikernel", "c:two-unikernel")
    assert {"c/two-unikernel.elf", "python/unikernel.elf"} <= set(project.dist())


def test_nothing_is_proposed_where_nobody_wants_it(project: PantsProject) -> None:
    project.succeed("tailor", "--check", "--no-unikernel-images-tailor", "::")
    assert "unikernel_image" not in project.succeed("tailor", "--check", "images::", "done::")
    # Without a look at them, nothing is packaged, and nothing is known against any.
    printed = project.run("tailor", "--check", "--no-unikernel-images-tailor-readiness", "old::")[1]
    assert "old/BUILD" in printed and "Completed: " not in printed
