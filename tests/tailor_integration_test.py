"""`pants tailor` in a repository of services and of all kinds of targets that are none. Nothing in
it can be packaged: a requirement that no index has, sources that do not compile, and no Docker
engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pants_project import DOCKER_BACKEND, PYTHON_BACKEND, PantsProject, completed_processes, plugin_configuration

_NOWHERE = "no-index-has-this-distribution==0.0.0"
_FLASK = f"""\
from flask import Flask
import no_such_module

app = Flask(__name__)
{"#" * 40}
if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8080)
"""
_MANAGE = """\
import os
import sys

def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)

if __name__ == "__main__":
    main()
"""
# It shares the service's code, and talks to servers.
_TOOL = """\
import argparse
import http.client
import socket

import requests
from web.app import app
from web import models

def main():
    argparse.ArgumentParser().parse_args()
    requests.get("http://localhost")
"""
_C_SERVER = "int main(void) { this is no C; if (listen(descriptor, 5)) return 1; }\n"
_C_TOOL = '/* listen(descriptor, 5) */ int main(void) { this is no C; puts("listen(a, b)"); }\n'
_FILES = {
    "3rdparty/BUILD": f'python_requirement(name="none", requirements=["{_NOWHERE}"], modules=["no_such_module"])\n',
    "web/app.py": _FLASK,
    "web/app_test.py": "from web.app import app\n",
    "web/models.py": "import socketserver\nimport http.server\n",
    "web/BUILD": """\
python_sources(name="library")
python_tests(name="tests")
pex_binary(name="web", entry_point="app.py")
pex_binary(name="served", script="gunicorn", args=["web.app:app"], dependencies=[":library"])
pex_binary(name="checked", script="pytest", dependencies=[":library"])
pex_binary(name="packed", dependencies=[":library"])
pex_binary(name="unwanted", entry_point="app.py", tags=["no-unikernel-image"])
""",
    "site/manage.py": _MANAGE,
    "site/BUILD": 'python_sources(name="library")\npex_binary(name="manage", entry_point="manage.py")\n',
    "tool/cli.py": _TOOL,
    "tool/BUILD": 'python_sources(name="library")\npex_binary(name="tool", entry_point="cli.py:main")\n',
    "done/server.py": "import uvicorn\nuvicorn.run('a:b')\n",
    "done/BUILD": """\
python_sources(name="library")
pex_binary(name="direct", entry_point="server.py")
pex_binary(name="inside", entry_point="server.py")
docker_image(name="around", instructions=["FROM scratch", "COPY done/inside.pex /", "EXPOSE 80"])
""",
    "images/BUILD": """\
unikernel_image(name="direct", app="done:direct")
unikernel_image(name="around", app="done:around")
""",
    "c/server.c": _C_SERVER,
    "c/tool.c": _C_TOOL,
    "c/BUILD": """\
cc_sources(name="sources")
cc_binary(name="server", dependencies=["./server.c:sources"])
cc_binary(name="tool", dependencies=["./tool.c:sources"])
""",
    "docker/BUILD": """\
docker_image(name="base", instructions=["FROM debian:12", "EXPOSE 80"])
docker_image(name="web", source="Dockerfile.web", dependencies=["web:web"])
docker_image(name="copied", instructions=["ARG BASE=:base", "FROM $BASE", "COPY c/server /"])
docker_image(name="job", instructions=["FROM debian:12", "RUN echo EXPOSE 80", "CMD sleep 1"])
docker_image(name="proxy", instructions=["FROM nginx:1.25 AS other", "FROM registry.example.com:5000/nginx:1", "EXPOSE 80 443"])
""",
    "docker/Dockerfile.web": 'FROM docker:base\nCOPY web/web.pex /\nENTRYPOINT ["/web.pex"]\nEXPOSE 8080\n',
}
# All that is proposed: BUILD file -> the images.
_PROPOSED = {
    "c/BUILD": {'name="unikernel",\n    app=":server"'},
    "docker/BUILD": {'name="unikernel",\n    app=":proxy"'},
    "site/BUILD": {'name="unikernel",\n    app=":manage"'},
    "web/BUILD": {'name="web-unikernel",\n    app=":web"', 'name="served-unikernel",\n    app=":served"'},
}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[PantsProject]:
    configuration = plugin_configuration(PYTHON_BACKEND, DOCKER_BACKEND)
    # A Docker engine that is not there, for those that would ask one.
    environment = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    with PantsProject(tmp_path / "repository", configuration=configuration, environment=environment) as project:
        for path, content in _FILES.items():
            project.write(path, content)
        yield project


def _proposals(project: PantsProject) -> dict[str, set[str]]:
    """The images in BUILD files that were not there before."""
    proposals = {}
    for path, before in _FILES.items():
        added = (project.root / path).read_text()[len(before) :] if path.endswith("BUILD") else ""
        if added:
            proposals[path] = set(re.findall(r"unikernel_image\(\n    (.*?),\n\)", added, re.DOTALL))
    return proposals


def test_an_image_is_proposed_for_each_service_and_nothing_is_built_to_find_it(project: PantsProject) -> None:
    # A pipeline stays green, and hears of it in one line.
    checked = project.succeed("tailor", "--check", "::")
    notices = [line for line in checked.splitlines() if "Services without a unikernel image: " in line]
    names = "c:server, docker:proxy, site:manage, web:served, web:web."
    assert len(notices) == 1 and names in notices[0], checked
    assert _proposals(project) == {}
    status, demanded = project.run("--no-pantsd", "-ldebug", "tailor", "--check", "--unikernel-images-tailor-check", "::")
    assert status == 1 and "Would update web/BUILD" in demanded
    assert "A unikernel image of c:server is proposed: c/server.c uses listen()" in demanded
    assert re.search(
        r"unikernel image of tool:tool is not proposed: it is a command-line tool: tool/cli\.py uses argparse", demanded
    )
    assert "unikernel image of docker:base is not proposed: other Docker images of this repository start from it" in demanded
    assert "unikernel image of docker:web is not proposed: it is made of web:web, which is proposed" in demanded
    assert "unikernel image of web:unwanted is not proposed: it has the tag no-unikernel-image" in demanded
    # No process at all, whether it ran or was cached.
    assert not re.search(r"\b(Building|Compile|Link|Lay out|Capture|docker build)\b.*\.(pex|c|o)\b", demanded), demanded
    written = project.succeed("tailor", "::")
    assert completed_processes(written) == []
    for quiet in ("tool", "docker:base", "is not proposed", "WARN", "ERROR"):
        assert quiet not in written
    assert _proposals(project) == _PROPOSED
    # Now all have one.
    assert "Services without" not in project.succeed("tailor", "--check", "--unikernel-images-tailor-check", "::")


def test_nothing_is_proposed_where_nobody_wants_it(project: PantsProject) -> None:
    assert "Services" not in project.succeed("tailor", "--check", "--no-unikernel-images-tailor", "::")
    assert "Services" not in project.succeed("tailor", "--check", "images::", "done::", "tool::")
    assert "Services" not in project.succeed("--tag=wanted", "tailor", "--check", "::")
