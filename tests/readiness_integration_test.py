"""`pants unikernel-readiness` with services of all kinds, and with arguments that name none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from pants_project import DOCKER_BACKEND, PYTHON_BACKEND, PantsProject, plugin_configuration

_SERVER = """\
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

if sys.version_info >= (3, 9):
    import subprocess

HTTPServer(("", 8080), BaseHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    root = tmp_path_factory.mktemp("readiness") / "repository"
    configuration = plugin_configuration(PYTHON_BACKEND, DOCKER_BACKEND).replace("CPython>=3.9", "CPython>=3.8")
    # No Docker engine, whatever this machine has.
    environment = {"DOCKER_HOST": f"unix://{root}/none.sock"}
    with PantsProject(root, configuration=configuration, environment=environment) as project:
        project.write("python/server.py", _SERVER)
        project.write(
            "python/BUILD",
            'python_sources(name="sources")\n'
            'pex_binary(name="old", entry_point="server.py", interpreter_constraints=["==3.8.*"])\n'
            'pex_binary(name="none", entry_point="server.py", interpreter_constraints=["==3.8.99"])\n',
        )
        project.write("c/main.c", "int main(void) { return 0; }\n")
        project.write("c/broken.c", "this is no C\n")
        project.write(
            "c/BUILD",
            'cc_sources(name="sources")\n'
            'cc_binary(name="app", dependencies=["./main.c:sources"])\n'
            'cc_binary(name="broken", dependencies=["./broken.c:sources"])\n'
            'unikernel_image(name="image", app=":app", library_os="nanos", network="none")\n',
        )
        project.write("docker/Dockerfile", "FROM scratch\nEXPOSE 80\n")
        project.write("docker/BUILD", 'docker_image(name="server")\n')
        project.write("empty/note.txt", "")
        yield project


def _rows(printed: str) -> dict[str, str]:
    """The lines of the table, by service."""
    lines = printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("service "))
    rows = [line.split(maxsplit=1) for line in lines[start + 1 :] if re.match(r"[^\s:]+:[^\s:]+ ", line)]
    return {row[0]: row[1] for row in rows}


def test_a_line_for_each_service_and_those_that_cannot_be_packaged_end_no_other(project: PantsProject) -> None:
    printed = project.succeed("unikernel-readiness", "::")
    rows = _rows(printed)
    assert set(rows) == {"c:app", "c:broken", "python:old", "python:none"}
    assert rows["c:app"].startswith("nanos ") and " ready " in rows["c:app"]
    assert re.search(r"linux +cannot be checked +1 source of c:broken can't be compiled", rows["c:broken"])
    assert re.search(r"linux +cannot be checked +\S", rows["python:none"])
    # Nothing is held against it that only newer interpreters have, or do.
    assert re.match(r"linux +ready +nanos, ", rows["python:old"])
    assert "(cc_binary)" not in printed and "Traceback" not in printed


def test_details_of_one_service_by_its_image_and_a_document_of_all(project: PantsProject) -> None:
    printed = project.succeed("unikernel-readiness", "c:image")
    assert set(_rows(printed)) == {"c:app"}
    assert re.search(r"^c:app \(cc_binary\)\n(  .*\n)*  linux +ready$", printed, re.MULTILINE)
    printed = project.succeed("unikernel-readiness", "--json", "python:old", "c:broken")
    old, broken = sorted(json.loads(printed[printed.index("{\n") :])["services"], key=lambda service: service["type"], reverse=True)
    assert old["library_oses"]["nanos"] == {"readiness": "ready", "reasons": [], "notes": []}
    assert broken["problem"].startswith("1 source of c:broken can't be compiled.") and "\n" not in broken["problem"]


def test_each_bad_argument_is_a_line(project: PantsProject) -> None:
    arguments = ["c:nothing", "nowhere::", "nowhere/none.c", "nowhere:x", "empty:x", "python:sources", "docker:server", "c:app"]
    status, printed = project.run("unikernel-readiness", *arguments)
    assert status == 1 and "raceback" not in printed and "Exception" not in printed, printed
    assert set(_rows(printed)) == {"c:app", "docker:server"}
    assert "cannot be checked" in _rows(printed)["docker:server"]
    for line in (
        r"The address c:nothing from CLI arguments does not exist\..*",
        r'Unmatched glob from CLI arguments: "nowhere/\*\*".*',
        r'Unmatched glob from CLI arguments: "nowhere/none\.c".*',
        r"The file or directory 'nowhere' does not exist on disk.*'nowhere:x'.*",
        r"python:sources: a `python_source` is not packaged as a service\. .*",
    ):
        assert len(re.findall(f"^{line}$", printed, re.MULTILINE)) == 1, (line, printed)
    for words, expected in (
        ((), "Usage: pants unikernel-readiness [OPTION...] TARGET... (such as ::, for every service; "),
        (("empty::",), "none of the targets is packaged as a service"),
        (("--library-os=['nano']", "::"), "Did you mean 'nanos'?"),
    ):
        status, printed = project.run("unikernel-readiness", *words)
        assert status == 1 and expected in printed and "raceback" not in printed, printed
