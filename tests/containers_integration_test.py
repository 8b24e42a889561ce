"""Unikernels alongside Docker, with a real engine: one PEX for both, container images that answer as unikernels do, and Docker images as
applications.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import Machine, boot, free_port, http_get
from pants_project import DOCKER_BACKEND, PYTHON_BACKEND, PantsProject, completed_processes, plugin_configuration
from sample_services import make_services_project
from unikernel.image.manifest import read_manifest
from unikernel.testing.docker_engine import DockerEngine, running_docker_engine

# Pants would know the outcome of what an earlier run of these tests had.
NEW = uuid.uuid4().hex
SERVER = """\
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
const char made[] __attribute__((used)) = "NEW";
int main(int argc, char **argv)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0)
        return 1;
    for (;;) {
        int client = accept(listener, NULL, NULL);
        char request[4096], body[4096], directory[256];
        struct stat data;
        if (read(client, request, sizeof request) <= 0) {
            close(client);
            continue;
        }
        stat("/data", &data);
        int size = snprintf(body, sizeof body, "%d.%d in %s of %d says %s", (int)getuid(), (int)getgid(), getcwd(directory, 256),
                            (int)data.st_uid, getenv("GREETING"));
        for (int i = 2; i < argc; i++)
            size += snprintf(body + size, sizeof body - size, " [%s]", argv[i]);
        dprintf(client, "HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s", size, body);
        close(client);
    }
}
"""
DOCKERFILE = [
    "FROM scratch",
    "COPY docker/program /bin/server",
    "COPY docker/passwd /etc/passwd",
    "COPY --chown=1000:2000 docker/passwd /data/users",
    "COPY --chown=1000:2000 docker/passwd /data",
    "ENV GREETING='hi there'",
    "WORKDIR /data",
    "USER app",
    "EXPOSE 8080",
    'ENTRYPOINT ["server"]',
    'CMD ["8080", "a b"]',
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    with running_docker_engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def configuration() -> str:
    extra = '[docker]\nenv_vars = ["DOCKER_CONFIG", "DOCKER_HOST", "HOME"]\n'
    return plugin_configuration(PYTHON_BACKEND, DOCKER_BACKEND, extra=extra)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, engine: DockerEngine) -> Iterator[PantsProject]:
    root = tmp_path_factory.mktemp("project")
    with PantsProject(root, configuration=configuration(), environment=engine.environment) as project:
        yield project


def docker_image(*instructions: str, packages: str = "") -> str:
    return f"docker_image(name='docker', instructions={list(instructions)!r}, dependencies=[{packages}])\n"


@pytest.fixture(scope="module")
def docker_app(project: PantsProject) -> PantsProject:
    project.write("docker/server.c", SERVER.replace("NEW", NEW))
    project.write("docker/passwd", "root:x:0:0::/:\napp:x:1000:2000::/data:\n")
    build = "cc_sources(name='sources')\ncc_binary(name='program', dependencies=[':sources'], link='static')\n"
    build += "file(name='passwd', source='passwd')\n"
    build += docker_image(*DOCKERFILE, packages="':program', ':passwd'")
    build += "unikernel_image(name='unikernel', app=':docker', memory='64M', formats=['elf', 'container'])\n"
    build += (
        "unikernel_image(name='overridden', app=':docker', memory='64M', args=['9090', 'mine'], env={'GREETING': 'bye'}, "
        "working_directory='/etc', user='0:5', ports=['9090'])\n"
    )
    project.write("docker/BUILD", build)
    project.succeed("package", "docker::")
    return project


def key_of(project: PantsProject) -> Path:
    return project.development_key.with_suffix(".pub")


# --- both from one PEX --------------------------------------------------------------------------------------------


def test_one_run_packages_both_and_builds_the_pex_once(project: PantsProject) -> None:
    project.write("side/server.py", f"print('{NEW}')\n")
    project.write(
        "side/BUILD",
        "python_sources(name='sources')\npex_binary(name='server', entry_point='server.py')\n"
        + docker_image("FROM scratch", "COPY side/server.pex /server.pex", 'ENTRYPOINT ["/server.pex"]', packages="':server'")
        + "unikernel_image(name='unikernel', app=':server', network='none', formats=['elf', 'container'])\n",
    )
    processes = completed_processes(project.succeed("package", "side::"))
    assert processes.count("Building side/server.pex") == 1
    assert processes.count("Lay out side:server") == 1
    assert [process for process in processes if process.startswith("Building docker image")] == [
        "Building docker image docker:latest"
    ]
    assert {"side/docker.docker-info.json", "side/server.pex", "side/unikernel.container.tar", "side/unikernel.elf"} <= set(
        project.dist()
    )
    assert completed_processes(project.succeed("package", "side:unikernel", "side:server")) == []


# --- the container ------------------------------------------------------------------------------------------------


def test_the_sample_service_answers_the_same_in_docker_and_by_itself(tmp_path: Path, engine: DockerEngine) -> None:
    with make_services_project(tmp_path / "services") as services:
        services.succeed("package", "src/services/greeter:unikernel")
        directory = services.root / "dist/src.services.greeter"
        inspected = subprocess.run(
            ["skopeo", "inspect", f"oci:{directory}/unikernel.container"], stdout=subprocess.PIPE, check=True
        )
        assert json.loads(inspected.stdout)["Architecture"] == "amd64"
        loaded = engine.docker("load", f"--input={directory}/unikernel.container.tar")
        assert "greeter/unikernel:latest" in loaded
        container = engine.docker("run", "--detach", "--network=host", "greeter/unikernel:latest").strip()
        try:
            answers = [http_get(8080, path) for path in ("/", "/greet?name=%3CAda%3E")]
        finally:
            engine.docker("rm", "--force", container)
        port = free_port()
        with Machine(directory / "unikernel.elf", options=["-p", f"{port}:8080"], key=key_of(services)):
            assert [http_get(port, path) for path in ("/", "/greet?name=%3CAda%3E")] == answers


# --- a Docker image as an application -----------------------------------------------------------------------------


def test_what_a_docker_image_says_of_itself_counts(docker_app: PantsProject) -> None:
    image = docker_app.root / "dist/docker/unikernel.elf"
    manifest = read_manifest(image)
    assert [(port.guest_port, port.protocol) for port in manifest.ports] == [(8080, "tcp")]
    assert (manifest.start.program, manifest.start.working_directory, manifest.start.user) == ("/bin/server", "/data", "1000:2000")
    port = free_port()
    with Machine(image, options=["-p", f"{port}:8080"], key=key_of(docker_app)):
        assert http_get(port, "/") == (200, "1000.2000 in /data of 1000 says hi there [a b]")


def test_fields_come_before_what_a_docker_image_says(docker_app: PantsProject) -> None:
    port = free_port()
    with Machine(docker_app.root / "dist/docker/overridden.elf", options=["-p", f"{port}:9090"], key=key_of(docker_app)):
        assert http_get(port, "/") == (200, "0.5 in /etc of 1000 says bye [mine]")


def test_the_container_of_a_docker_image_is_the_image(docker_app: PantsProject, engine: DockerEngine) -> None:
    engine.docker("load", f"--input={docker_app.root}/dist/docker/unikernel.container.tar")
    (ours,) = json.loads(engine.docker("image", "inspect", "docker/unikernel:latest"))
    container = engine.docker("run", "--detach", "--network=host", "docker/unikernel:latest").strip()
    try:
        assert http_get(8080, "/") == (200, "1000.2000 in /data of 1000 says hi there [a b]")
    finally:
        engine.docker("rm", "--force", container)
    assert (ours["Config"]["WorkingDir"], list(ours["Config"]["ExposedPorts"])) == ("/data", ["8080/tcp"])


def test_only_another_image_is_laid_out_again(docker_app: PantsProject) -> None:
    assert "Lay out docker:docker" not in completed_processes(docker_app.succeed("--no-pantsd", "package", "docker:unikernel"))
    docker_app.write("docker/passwd", "root:x:0:0::/:\napp:x:1000:2000:renamed:/data:\n")
    assert "Lay out docker:docker" in completed_processes(docker_app.succeed("package", "docker:unikernel"))


@pytest.mark.parametrize(
    ("instructions", "fields", "expected"),
    [
        (["COPY bad/data /data"], "", "bad:docker has neither an ENTRYPOINT nor a CMD"),
        (["COPY bad/data /data", 'ENTRYPOINT ["/missing"]'], "", "/missing"),
        (["COPY bad/data /data", 'ENTRYPOINT ["/data"]'], "", "/data"),
        (["COPY bad/data /TRAILER!!!", 'ENTRYPOINT ["/TRAILER!!!"]'], "", "TRAILER!!!"),
        (["COPY bad/data /.unikernel/init", 'ENTRYPOINT ["/.unikernel/init"]'], "", "/.unikernel"),
    ],
)
def test_docker_images_that_no_unikernel_can_be_made_of(
    project: PantsProject, instructions: list[str], fields: str, expected: str
) -> None:
    project.write("bad/data", "data")
    build = "file(name='data', source='data')\n" + docker_image("FROM scratch", *instructions, packages="':data'")
    project.refuse(build + f"unikernel_image(name='bad', app=':docker'{fields})\n", "bad:bad: ", expected)


def test_without_an_engine(project: PantsProject) -> None:
    project.write("gone/data", "data")
    build = "file(name='data', source='data')\n" + docker_image("FROM scratch", "COPY gone/data /data", packages="':data'")
    file = project.write("gone/BUILD", build + "unikernel_image(name='unikernel', app=':docker')\n")
    try:
        project.fail(
            "package",
            "gone:unikernel",
            expected=["Cannot connect to the Docker daemon"],
            environment={"DOCKER_HOST": "unix:///nowhere.sock"},
        )
    finally:
        file.unlink()


LOOKING = r"""
#include <stdio.h>
#include <sys/stat.h>
const char made[] __attribute__((used)) = "NEW";
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat file;
        if (lstat(argv[i], &file) != 0)
            return 1;
        printf("%s %o %d.%d\n", argv[i], (unsigned)file.st_mode, (int)file.st_uid, (int)file.st_gid);
    }
    return 7;
}
"""


def test_modes_and_owners_of_what_others_built(project: PantsProject, engine: DockerEngine, tmp_path: Path) -> None:
    members = {
        "shared": (tarfile.DIRTYPE, 0o2775, 0, 2000),
        "shared/directory": (tarfile.DIRTYPE, 0o755, 5, 6),
        "shared/file": (tarfile.REGTYPE, 0o640, 0, 0),
        "shared/link": (tarfile.SYMTYPE, 0o777, 7, 8),
        "tool": (tarfile.REGTYPE, 0o4755, 0, 0),
    }
    with tarfile.open(tmp_path / "base.tar", "w") as archive:
        for name, (kind, mode, uid, gid) in members.items():
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.gid, member.linkname = kind, mode, uid, gid, "file"
            archive.addfile(member)
    engine.docker("import", str(tmp_path / "base.tar"), "others:1")
    project.write("looks/main.c", LOOKING.replace("NEW", NEW))
    command = json.dumps(["/program", *(f"/{name}" for name in members)])
    project.write(
        "looks/BUILD",
        "cc_sources(name='sources')\ncc_binary(name='program', dependencies=[':sources'], link='static')\n"
        + docker_image("FROM others:1", "COPY looks/program /program", f"CMD {command}", packages="':program'")
        + "unikernel_image(name='unikernel', app=':docker', network='none', memory='64M')\n",
    )
    project.succeed("package", "looks:unikernel")
    status, console = boot(project.root / "dist/looks/unikernel.elf", key=key_of(project))
    assert status == 7
    kinds = {tarfile.DIRTYPE: 0o40000, tarfile.REGTYPE: 0o100000, tarfile.SYMTYPE: 0o120000}
    expected = {f"/{name} {kinds[kind] | mode:o} {uid}.{gid}" for name, (kind, mode, uid, gid) in members.items()}
    assert expected <= set(console.splitlines())
