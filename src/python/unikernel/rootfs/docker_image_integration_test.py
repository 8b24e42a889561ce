"""Images that a real Docker engine built."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import unikernel
from unikernel.image.layers import start_and_archives
from unikernel.image.spec import ImageSpec, Port
from unikernel.oci.container import ContainerSettings, write_container, write_docker_archive
from unikernel.rootfs.cpio import CpioEntry, read_cpio_bytes
from unikernel.rootfs.layer import LayerIndex
from unikernel.rootfs.merge import merged_rootfs
from unikernel.testing.docker_engine import DockerEngine, running_docker_engine
from unikernel.testing.programs import compile_c

_ROOT = str(Path(unikernel.__file__).parent.parent)
# Removes the files that it is told, makes a directory anew, or shows who runs it with what.
_TOOL = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int count, char **words) {
    char directory[4096];
    if (count > 1 && !strcmp(words[1], "remove")) {
        for (int i = 2; i < count; i++)
            if (remove(words[i])) return 1;
        return 0;
    }
    if (count > 1 && !strcmp(words[1], "renew")) return remove(words[2]) || mkdir(words[2], 0700);
    if (count > 1 && !strcmp(words[1], "link")) return link(words[2], words[3]);
    printf("%d:%d %s %s", getuid(), getgid(), getcwd(directory, sizeof directory), getenv("HOME"));
    for (int i = 0; i < count; i++) printf(" %s", words[i]);
    printf("\\n");
    return 0;
}
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    with running_docker_engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(tmp_path_factory.mktemp("tool") / "tool", _TOOL, "-static", "-s", "-O1")


def _context(tmp_path: Path, tool: Path, dockerfile: str, files: dict[str, str] | None = None) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "tool").write_bytes(tool.read_bytes())
    (context / "tool").chmod(0o755)
    (context / "Dockerfile").write_text(dockerfile)
    for name, content in (files or {}).items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(content)
    return context


def _step(engine: DockerEngine, image_id: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The step as a build runs it: in a directory of its own."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "unikernel", "docker-image-layer", "--docker=docker", f"--image-id={image_id}"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": _ROOT, **engine.environment}
    return subprocess.run(
        [*command, "--output=application.cpio", *options],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def _layer(
    engine: DockerEngine, image_id: str, tmp_path: Path, *options: str
) -> tuple[LayerIndex, dict[str, tuple[CpioEntry, bytes]]]:
    result = _step(engine, image_id, tmp_path / "layer", *options)
    assert (result.returncode, result.stdout) == (0, "")
    assert sorted(path.name for path in (tmp_path / "layer").iterdir()) == ["application.cpio", "application.json"]
    entries = read_cpio_bytes((tmp_path / "layer/application.cpio").read_bytes())
    return LayerIndex.read(tmp_path / "layer/application.json"), {f"/{entry.path}": (entry, content) for entry, content in entries}


_DOCKERFILE = """\
FROM scratch AS build
COPY tool /build/tool
COPY data /build/data

FROM scratch
COPY etc /etc
COPY --from=build --chown=1000:50 /build/data /srv/data
COPY --from=build /build/tool /usr/local/bin/tool
ENV GREETING="hello  world" PATH=/usr/local/bin:/usr/bin
WORKDIR /srv/data
USER app
EXPOSE 8080 53/udp
VOLUME /cache
ENTRYPOINT ["tool", "show"]
CMD ["by default"]
"""
_FILES = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:\n",
    "etc/group": "root:x:0:\nstaff:x:50:\n",
    "data/a": "a",
    "data/sub/b": "b",
}


def test_an_image_of_two_stages(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    image_id = engine.build(_context(tmp_path, tool, _DOCKERFILE, _FILES))
    index, entries = _layer(engine, image_id, tmp_path)
    assert index.facts["start"] == {
        "program": "/usr/local/bin/tool",
        "arguments": ["tool", "show"],
        "default_arguments": ["by default"],
        "environment": {"GREETING": "hello  world", "PATH": "/usr/local/bin:/usr/bin"},
        "working_directory": "/srv/data",
        "user": "app",
        "ports": ["53/udp", "8080/tcp"],
    }
    owners = {path: entry.owner for path, (entry, _) in entries.items() if entry.owner != (0, 0)}
    assert owners == {path: (1000, 50) for path in ("/srv/data", "/srv/data/a", "/srv/data/sub", "/srv/data/sub/b")}
    assert entries["/usr/local/bin/tool"][1] == tool.read_bytes()
    assert "/cache" in entries and not {"/build", "/dev", "/etc/hosts"} & set(entries)
    assert (index.needs, index.programs, index.facts["program"]) == ({}, {}, {"name": "tool", "kind": "static"})


def test_it_starts_as_the_container_does(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    image_id = engine.build(_context(tmp_path, tool, _DOCKERFILE, _FILES))
    _layer(engine, image_id, tmp_path)
    layers = [tmp_path / "layer/application.cpio"]
    spec, start, archives = start_and_archives(ImageSpec("image"), layers, tmp_path)
    assert spec.ports == (Port(53, 53, "udp"), Port(8080, 8080))
    home = next(variable for variable in start.environment if variable.startswith("HOME="))
    shown = f"{start.user} {start.working_directory} {home[5:]} {' '.join(start.arguments)}"
    assert engine.docker("run", "--rm", "--network=host", image_id) == shown
    # A container image of the same layers starts as they do, as the same user.
    with merged_rootfs([archive.path for archive in archives]) as rootfs:
        settings = ContainerSettings("image", "x86_64", "again:latest", user=spec.user)
        descriptor = write_container(rootfs, start, settings, tmp_path / "layout", tmp_path)
    write_docker_archive(tmp_path / "layout", descriptor, "again:latest", tmp_path / "again.tar")
    engine.docker("load", "--input", str(tmp_path / "again.tar"))
    again = engine.docker("run", "--rm", "--network=host", "again:latest")
    assert again == shown.replace(" tool show", " /usr/local/bin/tool show")
    # And becomes the same layer again, with what the base added.
    image_id = engine.docker("image", "inspect", "--format={{.Id}}", "again:latest")
    first = LayerIndex.read(tmp_path / "layer/application.json")
    index, _ = _layer(engine, image_id, tmp_path)
    there = {entry.path: entry for entry in index.entries}
    assert [there[entry.path] for entry in first.entries] == first.entries


def test_an_executable_is_what_docker_calls_an_entrypoint(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    image_id = engine.build(_context(tmp_path, tool, _DOCKERFILE, _FILES))
    index, _ = _layer(engine, image_id, tmp_path, "--executable=/usr/local/bin/../bin/tool")
    start = index.facts["start"]
    assert (start["program"], start["default_arguments"]) == ("/usr/local/bin/tool", [])
    printed = engine.docker("run", "--rm", "--network=host", "--entrypoint=/usr/local/bin/../bin/tool", image_id)
    assert printed == "1000:1000 /srv/data /home/app " + " ".join(start["arguments"])


def test_what_a_later_layer_removes_is_gone(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    dockerfile = """\
FROM scratch
COPY tool /tool
COPY data /data
COPY data /opaque
RUN ["/tool", "remove", "/data/a", "/data/sub/b", "/data/sub"]
RUN ["/tool", "remove", "/opaque/a", "/opaque/sub/b", "/opaque/sub"]
RUN ["/tool", "renew", "/opaque"]
RUN ["/tool", "show"]
RUN ["/tool", "show", "again"]
COPY data/a /data/sub
RUN ["/tool", "link", "/tool", "/linked"]
CMD ["/linked"]
"""
    image_id = engine.build(_context(tmp_path, tool, dockerfile, _FILES))
    _, entries = _layer(engine, image_id, tmp_path)
    assert list(entries) == ["/data", "/data/sub", "/linked", "/opaque", "/tool"]
    assert entries["/data/sub"][1] == b"a"
    assert entries["/linked"][1] == entries["/tool"][1] == tool.read_bytes()
    assert entries["/opaque"][0].mode == stat.S_IFDIR | 0o700


def test_a_container_that_is_committed(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    context = _context(tmp_path, tool, 'FROM scratch\nCOPY tool /tool\nCOPY data /data\nCMD ["/tool"]\n', _FILES)
    container = engine.docker("create", "--network=host", engine.build(context), "/tool", "remove", "/data/a")
    engine.docker("start", "--attach", container)
    changes = ["--change=WORKDIR /made", '--change=ENTRYPOINT ["/tool"]', '--change=CMD ["x"]']
    index, entries = _layer(engine, engine.docker("commit", *changes, container), tmp_path)
    # Docker makes the directory when a container starts.
    assert list(entries) == ["/data", "/data/sub", "/data/sub/b", "/made", "/tool"]
    assert index.facts["start"]["working_directory"] == "/made"


def test_a_root_file_system_that_is_imported(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    """What no Dockerfile makes: odd names, modes, owners, pipes, devices, capabilities."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "dev").mkdir()
    (root / "etc").mkdir()
    (root / "etc/hosts").write_text("docker's")
    (root / "bin/tool").write_bytes(tool.read_bytes())
    (root / "bin/tool").chmod(0o4755)
    os.link(root / "bin/tool", root / "bin/linked")
    os.mkfifo(root / "pipe")
    for name, kind, mode, device in (("null", stat.S_IFCHR, 0o666, (1, 3)), ("disk", stat.S_IFBLK, 0o660, (7, 1))):
        os.mknod(root / name, kind, os.makedev(*device))
        (root / name).chmod(mode)
    odd = os.fsdecode(b"latin-\xe9")
    (root / odd).write_text("odd")
    os.symlink(odd, root / "link")
    os.chown(root / "link", 1000, 2000, follow_symlinks=False)
    (root / "large").write_bytes(bytes(1 << 20) + b"end")
    os.chown(root / "large", 4294967294, 0)
    # CAP_NET_RAW, permitted and effective: VFS_CAP_REVISION_2 in <linux/capability.h>.
    os.setxattr(root / "bin/linked", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    archive = tmp_path / "root.tar"
    subprocess.run(
        ["tar", "-C", str(root), "--numeric-owner", "--xattrs", "--xattrs-include=*", "-cf", str(archive), "."],
        check=True,
    )
    image_id = engine.docker("import", '--change=ENTRYPOINT ["tool"]', str(archive))
    result = _step(engine, image_id, tmp_path / "layer")
    assert result.returncode == 0
    pipes, attributes = result.stdout.splitlines()
    assert pipes == f"unikernel: {image_id}: pipes are left out: make them at run time: /pipe"
    assert attributes.endswith(": /bin/linked, /bin/tool")
    entries = {
        f"/{entry.path}": (stat.filemode(entry.mode), entry.owner, content)
        for entry, content in read_cpio_bytes((tmp_path / "layer/application.cpio").read_bytes())
    }
    content = tool.read_bytes()
    assert entries == {
        "/bin": ("drwxr-xr-x", (0, 0), b""),
        "/bin/linked": ("-rwsr-xr-x", (0, 0), content),
        "/bin/tool": ("-rwsr-xr-x", (0, 0), content),
        "/disk": ("brw-rw----", (0, 0), b""),
        "/etc": ("drwxr-xr-x", (0, 0), b""),
        "/large": ("-rw-r--r--", (4294967294, 0), bytes(1 << 20) + b"end"),
        f"/{odd}": ("-rw-r--r--", (0, 0), b"odd"),
        "/link": ("lrwxrwxrwx", (1000, 2000), os.fsencode(odd)),
        "/null": ("crw-rw-rw-", (0, 0), b""),
    }


def test_a_container_with_odd_names_is_loaded(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"latin-\xe9")
    (tmp_path / odd).write_text("odd")
    tarred = tmp_path / "root.tar"
    with tarfile.open(tarred, "w", encoding="utf-8") as archive:
        archive.add(tool, "tool")
        archive.add(tmp_path / odd, odd)
    _, entries = _layer(engine, engine.docker("import", "--change=CMD /tool", str(tarred)), tmp_path, "--executable=/tool")
    assert f"/{odd}" in entries
    with merged_rootfs([tmp_path / "layer/application.cpio"]) as rootfs:
        _, start, _ = start_and_archives(ImageSpec("image"), [tmp_path / "layer/application.cpio"], tmp_path)
        descriptor = write_container(rootfs, start, ContainerSettings("image", "x86_64"), tmp_path / "layout", tmp_path)
    write_docker_archive(tmp_path / "layout", descriptor, "odd:latest", tmp_path / "odd.tar")
    engine.docker("load", "--input", str(tmp_path / "odd.tar"))
    image_id = engine.docker("image", "inspect", "--format={{.Id}}", "odd:latest")
    _, again = _layer(engine, image_id, tmp_path)
    assert again[f"/{odd}"][1] == b"odd"


@pytest.mark.parametrize(
    ("end", "part"),
    [
        ("", "has neither an ENTRYPOINT nor a CMD: say by `executable` what starts."),
        ("CMD run", "would start '/bin/sh', which it does not have: say by `executable`"),
        ('ENTRYPOINT ["none"]', "would start 'none', which it does not have on its PATH (/usr/local/sbin:"),
        ('COPY data/a /a\nENTRYPOINT ["/a"]', "would start /a, which is not executable"),
        ("COPY data/a /.unikernel/config", "has /.unikernel/config, where a unikernel has its own PID 1"),
        ('COPY data/a /TRAILER!!!\nCMD ["/tool"]', "/TRAILER!!! is no name for a file"),
    ],
)
def test_what_cannot_become_a_unikernel_is_one_line(engine: DockerEngine, tool: Path, tmp_path: Path, end: str, part: str) -> None:
    image_id = engine.build(_context(tmp_path, tool, f"FROM scratch\nCOPY tool /tool\n{end}\n", _FILES))
    result = _step(engine, image_id, tmp_path / "layer")
    assert result.returncode == 1
    assert result.stdout.startswith(f"unikernel: The Docker image {image_id}") and part in result.stdout
    assert result.stdout.count("\n") == 1
    assert list((tmp_path / "layer").iterdir()) == []


def test_an_image_for_another_machine(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    context = _context(tmp_path, tool, 'FROM scratch\nCOPY tool /tool\nCMD ["/tool"]\n')
    archive = tmp_path / "image.tar"
    engine.docker("save", "--output", str(archive), engine.build(context))
    image_id = _load_for_another_machine(engine, archive, tmp_path)
    result = _step(engine, image_id, tmp_path / "layer")
    assert (result.returncode, result.stdout.count("\n")) == (1, 1)
    assert "is for linux/arm64, and the unikernel for x86_64" in result.stdout


def _load_for_another_machine(engine: DockerEngine, archive: Path, tmp_path: Path) -> str:
    """The image with another architecture in its configuration: nothing here can build one."""
    with tarfile.open(archive) as saved:
        saved.extractall(tmp_path / "saved")
    [description] = json.loads((tmp_path / "saved/manifest.json").read_text())
    config: Any = json.loads((tmp_path / "saved" / description["Config"]).read_text())
    (tmp_path / "saved/config.json").write_text(json.dumps({**config, "architecture": "arm64"}))
    (tmp_path / "saved/manifest.json").write_text(json.dumps([{**description, "Config": "config.json"}]))
    subprocess.run(["tar", "-C", str(tmp_path / "saved"), "-cf", str(tmp_path / "other.tar"), "."], check=True)
    return engine.docker("load", "--input", str(tmp_path / "other.tar")).rpartition(" ")[2]


def test_an_image_that_is_gone_and_an_engine_that_does_not_answer(engine: DockerEngine, tool: Path, tmp_path: Path) -> None:
    image_id = engine.build(_context(tmp_path, tool, 'FROM scratch\nCOPY tool /gone\nCMD ["/gone"]\n'))
    engine.docker("image", "rm", image_id)
    result = _step(engine, image_id, tmp_path / "layer")
    assert (result.returncode, result.stdout.count("\n")) == (1, 1)
    assert result.stdout.startswith(f"unikernel: The Docker image {image_id} cannot be saved: Error")
    nobody = DockerEngine(tmp_path / "nobody")
    result = _step(nobody, image_id, tmp_path / "layer")
    assert (result.returncode, result.stdout.count("\n")) == (1, 1)
    assert f"cannot be saved: Cannot connect to the Docker daemon at unix://{tmp_path}/nobody/docker.sock" in result.stdout
    assert list((tmp_path / "layer").iterdir()) == []


def test_nothing_of_an_engine_is_left(tool: Path, tmp_path: Path) -> None:
    with running_docker_engine(tmp_path / "engine") as engine:
        directory = engine.directory
        image_id = engine.build(_context(tmp_path, tool, 'FROM scratch\nCOPY tool /tool\nCMD ["/tool"]\n'))
        assert engine.docker("run", "--network=host", image_id).startswith("0:0 / ")
    assert not directory.exists() and not (tmp_path / "engine").exists()
    processes = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in processes if str(directory).encode() in command]
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(directory) not in mounts and str(tmp_path) not in mounts
