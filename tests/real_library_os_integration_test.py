"""Real kernels of Unikraft, Nanos and Solo5, where there are any: their makers publish them, and nothing here builds them.

UNIKERNEL_TEST_UNIKRAFT: the path of a kernel of app-elfloader for qemu/x86_64.
UNIKERNEL_TEST_NANOS: a directory with kernel.img, boot.img and mkfs.
UNIKERNEL_TEST_SOLO5: where Solo5 is installed: a directory with bin/.

Without one, its tests say what was not tried.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import Machine, boot, free_port, http_get
from pants_project import PYTHON_BACKEND, PantsProject, plugin_configuration
from unikernel.signing.development_key import public_part_path

HELLO = """\
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv)
{
    printf("hello");
    for (int i = 1; i < argc; i++)
        printf(" [%s]", argv[i]);
    printf(" GREETING=%s\\n", getenv("GREETING"));
    fflush(stdout);
    return argc > 1 ? atoi(argv[1]) : 0;
}
"""
HTTP = """\
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static const char ANSWER[] = "HTTP/1.0 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nhi\\n";
int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8))
        return 1;
    for (;;) {
        char request[1024];
        int peer = accept(listener, 0, 0);
        read(peer, request, sizeof request);
        write(peer, ANSWER, strlen(ANSWER));
        close(peer);
    }
}
"""
PYTHON = """\
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"arguments": sys.argv[1:], "greeting": os.environ["GREETING"], "cwd": os.getcwd()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/quit":
            self.wfile.flush()
            os._exit(5)

HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
SOLO5 = """\
#include "solo5.h"
int solo5_app_main(const struct solo5_start_info *information)
{
    const char *line = information->cmdline;
    size_t length = 0;
    while (line[length])
        length++;
    solo5_console_write("hello ", 6);
    solo5_console_write(line, length);
    solo5_console_write("\\n", 1);
    solo5_exit(line[0] >= '0' && line[0] <= '9' ? line[0] - '0' : 0);
}
"""
LIBRARY_OSES = """\
file(name="unikraft_kernel", source="unikraft")
file(name="nanos_kernel", source="kernel.img")
file(name="nanos_boot", source="boot.img")
file(name="nanos_mkfs", source="mkfs")
library_os(name="unikraft", inputs={"kernel": ":unikraft_kernel"})
library_os(name="nanos", inputs={"kernel": ":nanos_kernel", "boot": ":nanos_boot", "mkfs": ":nanos_mkfs"})
"""
SERVICES = """\
cc_source(name="hello_source", source="hello.c")
cc_binary(name="hello", dependencies=[":hello_source"], link="static-pie")
cc_source(name="http_source", source="http.c")
cc_binary(name="http", dependencies=[":http_source"], link="static-pie")
python_sources()
pex_binary(name="python", entry_point="server.py")
cc_source(name="solo5", source="solo5.c")
"""


def _given(variable: str, what: str) -> Path:
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"not tried: {what} (no {variable})")
    return Path(value)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    solo5 = os.environ.get("UNIKERNEL_TEST_SOLO5")
    path = f"{os.environ['PATH']}:{solo5}/bin" if solo5 else os.environ["PATH"]
    with PantsProject(
        tmp_path_factory.mktemp("repository"), configuration=plugin_configuration(PYTHON_BACKEND), environment={"PATH": path}
    ) as project:
        for name, content in (("hello.c", HELLO), ("http.c", HTTP), ("server.py", PYTHON), ("solo5.c", SOLO5)):
            project.write(f"app/{name}", content)
        yield project


@pytest.fixture
def unikraft(project: PantsProject) -> PantsProject:
    return _with_kernels(project, {"unikraft": _given("UNIKERNEL_TEST_UNIKRAFT", "an image with a kernel of Unikraft")})


@pytest.fixture
def nanos(project: PantsProject) -> PantsProject:
    directory = _given("UNIKERNEL_TEST_NANOS", "an image that Nanos' mkfs makes with its kernel")
    return _with_kernels(project, {name: directory / name for name in ("kernel.img", "boot.img", "mkfs")})


@pytest.fixture
def solo5(project: PantsProject, monkeypatch: pytest.MonkeyPatch) -> PantsProject:
    directory = _given("UNIKERNEL_TEST_SOLO5", "a program linked with Solo5, with its tenders")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{directory}/bin")
    return _with_kernels(project, {})


def _with_kernels(project: PantsProject, files: dict[str, Path]) -> PantsProject:
    project.write("os/BUILD", LIBRARY_OSES)
    for name, path in files.items():
        shutil.copyfile(path, project.root / "os" / name)
    return project


def _package(project: PantsProject, library_os: str, app: str, **fields: object) -> Path:
    settings: dict[str, object] = {"app": f":{app}", "library_os": library_os, **fields}
    words = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    project.write("app/BUILD", f"{SERVICES}unikernel_image(name='image', {words})\n")
    for old in (project.root / "dist").glob("app/image.*"):
        old.unlink()
    project.succeed("package", "app:image")
    project.succeed("unikernel-verify", "app:image")
    (image,) = (path for path in (project.root / "dist/app").iterdir() if path.suffix in (".elf", ".img"))
    return image


def _key(project: PantsProject) -> Path:
    return public_part_path(project.development_key)


def _machine(project: PantsProject, image: Path, **options: object) -> Machine:
    return Machine(image, key=_key(project), **options)  # type: ignore[arg-type]


_ARGUMENTS = {"args": ["7", "two words", 'q"b\\'], "env": {"GREETING": "hi there"}}
_SAID = 'hello [7] [two words] [q"b\\] GREETING=hi there'


# --- Unikraft -------------------------------------------------------------------------------------------------------


def test_unikraft_says_hello(unikraft: PantsProject) -> None:
    image = _package(unikraft, "unikraft", "hello", **_ARGUMENTS)
    with _machine(unikraft, image) as machine:
        machine.wait_for(_SAID)
        # 0.16 does not end with the program.
        if machine.process.poll() is None:
            machine.process.send_signal(signal.SIGTERM)
            assert machine.wait() == 128 + signal.SIGTERM
    with _machine(unikraft, image, options=["-e", "GREETING=another"], arguments=["more"]) as machine:
        machine.wait_for('[q"b\\] [more] GREETING=another')


@pytest.mark.parametrize("network", [{}, {"network": "static", "ip_address": "10.0.7.9/24", "gateway": "10.0.7.2"}])
def test_unikraft_serves_http(unikraft: PantsProject, network: dict[str, str]) -> None:
    port = free_port()
    image = _package(unikraft, "unikraft", "http", ports=[f"{port}:8080"], **network)
    with _machine(unikraft, image) as machine:
        assert http_get(port, "/") == (200, "hi\n")
        assert network.get("ip_address", "10.0.2.15").partition("/")[0] in machine.console


def test_unikraft_runs_python(unikraft: PantsProject) -> None:
    port = free_port()
    image = _package(unikraft, "unikraft", "python", ports=[f"{port}:8080"], memory="256M", **_ARGUMENTS)
    with _machine(unikraft, image):
        assert json.loads(http_get(port, "/")[1])["arguments"] == _ARGUMENTS["args"]


def test_unikraft_is_the_same_bytes_again(unikraft: PantsProject) -> None:
    first = _package(unikraft, "unikraft", "hello").read_bytes()
    unikraft.write("app/hello.c", HELLO + "/* new */\n")
    assert _package(unikraft, "unikraft", "hello", args=["1"]).read_bytes() != first
    unikraft.write("app/hello.c", HELLO)
    assert _package(unikraft, "unikraft", "hello").read_bytes() == first


# --- Nanos ----------------------------------------------------------------------------------------------------------


def test_nanos_says_hello_and_how_it_ended(nanos: PantsProject) -> None:
    image = _package(nanos, "nanos", "hello", memory="64M", **_ARGUMENTS)
    content = image.read_bytes()
    status, console = boot(image, key=_key(nanos))
    assert (status, _SAID in console) == (7, True)
    # A machine writes to a copy.
    assert image.read_bytes() == content
    assert json.loads(image.with_suffix(".json").read_text())["not_reproducible"] is True
    status, console = nanos.run("run", "app:image")
    assert (status, _SAID in console) == (7, True)
    status, console = boot(image, key=_key(nanos), arguments=["more"])
    assert (status, "nanos has no place for arguments at boot" in console) == (1, True)


@pytest.mark.parametrize("network", [{}, {"network": "static", "ip_address": "10.0.7.9/24", "gateway": "10.0.7.2"}])
def test_nanos_serves_http(nanos: PantsProject, network: dict[str, str]) -> None:
    port = free_port()
    image = _package(nanos, "nanos", "http", ports=[f"{port}:8080"], **network)
    with _machine(nanos, image):
        assert http_get(port, "/") == (200, "hi\n")


def test_nanos_runs_python(nanos: PantsProject) -> None:
    port = free_port()
    image = _package(nanos, "nanos", "python", ports=[f"{port}:8080"], memory="256M", working_directory="/tmp", **_ARGUMENTS)
    with _machine(nanos, image) as machine:
        answer = json.loads(http_get(port, "/quit")[1])
        assert answer == {"arguments": _ARGUMENTS["args"], "greeting": "hi there", "cwd": "/tmp"}
        assert machine.wait() == 5


def test_nanos_is_packed_once(nanos: PantsProject) -> None:
    first = _package(nanos, "nanos", "hello").read_bytes()
    assert _package(nanos, "nanos", "hello").read_bytes() == first


# --- Solo5 ----------------------------------------------------------------------------------------------------------


def test_solo5_in_a_process(solo5: PantsProject) -> None:
    image = _package(solo5, "solo5", "solo5", args=["7", "words"])
    status, console = boot(image, key=_key(solo5))
    assert (status, "hello 7 words\n" in console) == (7, True)
    status, console = boot(image, key=_key(solo5), arguments=["more"])
    assert (status, "hello 7 words more\n" in console) == (7, True)
    assert re.fullmatch(r"\d+\.\d+.*", json.loads(image.with_suffix(".json").read_text())["library_os"]["version"])
    assert boot(_package(solo5, "solo5", "solo5"), key=_key(solo5))[0] == 0


def test_solo5_under_qemu(solo5: PantsProject) -> None:
    for network in ("dhcp", "none"):
        image = _package(solo5, "solo5-virtio", "solo5", args=["5"], network=network)
        status, console = boot(image, key=_key(solo5))
        assert (status, "hello 5\n" in console) == (5, True)


def test_solo5_in_a_machine_of_its_own(solo5: PantsProject) -> None:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("not tried: solo5-hvt, which needs KVM (no /dev/kvm)")
    status, console = boot(_package(solo5, "solo5-hvt", "solo5", args=["6"]), key=_key(solo5))
    assert (status, "hello 6\n" in console) == (6, True)


def test_a_program_that_is_linked_with_solo5_already(solo5: PantsProject) -> None:
    linked = _package(solo5, "solo5", "solo5").read_bytes()
    (solo5.root / "mirage").mkdir()
    (solo5.root / "mirage/linked.spt").write_bytes(linked)
    solo5.write(
        "mirage/BUILD",
        """\
file(name="linked", source="linked.spt")
archive(name="app", files=[":linked"], format="tar")
unikernel_image(name="image", app=":app", executable="mirage/linked.spt", library_os="mirage", args=["3"])
""",
    )
    solo5.succeed("package", "mirage:image")
    status, console = boot(solo5.root / "dist/mirage/image.elf", key=_key(solo5))
    assert (status, "hello 3\n" in console) == (3, True)
