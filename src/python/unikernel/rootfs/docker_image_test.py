"""With archives made by hand; those of a real engine are in docker_image_integration_test.py."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from unikernel import cli
from unikernel.errors import UnikernelError
from unikernel.image.limits import check_needs
from unikernel.library_os.description import AppKind
from unikernel.library_os.requirements import Program
from unikernel.rootfs.cpio import CpioEntry, read_cpio_bytes
from unikernel.rootfs.docker_image import DockerApplication, build_docker_application, save_docker_image
from unikernel.rootfs.layer import IndexEntry, LayerIndex
from unikernel.testing.docker_archives import directory, hard_link, link, member, tar, write_image
from unikernel.testing.programs import compile_c, for_another_machine, linked_program, shared_library, tiny_program

Members = Sequence["tuple[tarfile.TarInfo, bytes]"]
_LOADER = "/lib64/ld-linux-x86-64.so.2"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_program(tmp_path_factory.mktemp("tiny") / "tiny").read_bytes()


def _build(
    tmp_path: Path, layers: Sequence[Members], config: Any = None, executable: str | None = None, **changes: Any
) -> DockerApplication:
    image_id = write_image(tmp_path / "image.tar", [tar(*members) for members in layers], config, **changes)
    scratch = tmp_path / f"scratch-{len(list(tmp_path.iterdir()))}"
    scratch.mkdir()
    return build_docker_application(
        tmp_path / "image.tar", image_id=image_id, machine="x86_64", executable=executable, scratch=scratch
    )


def _program(name: str, content: bytes, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, content, mode=mode)


def _entries(application: DockerApplication, tmp_path: Path) -> dict[str, tuple[CpioEntry, bytes]]:
    application.layer.write(tmp_path / "application.cpio", application.index)
    return {f"/{entry.path}": (entry, content) for entry, content in read_cpio_bytes((tmp_path / "application.cpio").read_bytes())}


def _start(application: DockerApplication) -> dict[str, Any]:
    start: dict[str, Any] = application.index.facts["start"]
    return start


# --- files --------------------------------------------------------------------------------------------------------


def test_an_image_becomes_one_layer(tmp_path: Path, tiny: bytes) -> None:
    odd = os.fsdecode(b"srv/latin-\xe9")
    application = _build(
        tmp_path,
        [
            [
                _program("app", tiny, 0o6755),
                directory("srv", 0o1770, uid=1000, gid=50),
                member(odd, b"odd"),
                member("srv/gone", b""),
            ],
            [hard_link("srv/linked", "/app"), link("srv/link", "/app", uid=1000), member("srv/.wh.gone")],
            [member("opt/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)],
        ],
        {"Entrypoint": ["/app"]},
    )
    entries = _entries(application, tmp_path)
    assert {path: (stat.filemode(entry.mode), entry.owner) for path, (entry, _) in entries.items()} == {
        "/app": ("-rwsr-sr-x", (0, 0)),
        "/opt": ("drwxr-xr-x", (0, 0)),
        "/opt/null": ("crw-rw-rw-", (0, 0)),
        "/srv": ("drwxrwx--T", (1000, 50)),
        "/srv/link": ("lrwxrwxrwx", (1000, 0)),
        f"/{odd}": ("-rw-r--r--", (0, 0)),
        "/srv/linked": ("-rwsr-sr-x", (0, 0)),
    }
    assert entries["/app"][1] == entries["/srv/linked"][1] == tiny and entries[f"/{odd}"][1] == b"odd"
    assert application.warnings == []
    assert LayerIndex.read(tmp_path / "application.json") == application.index
    [component] = application.index.components
    assert f"sha256:{component.sha256}" == component.version


def test_the_same_image_gives_the_same_bytes(tmp_path: Path, tiny: bytes) -> None:
    written: set[bytes] = set()
    for is_oci, is_compressed in ((True, True), (True, False), (False, False)):
        layers: list[Members] = [[_program("app", tiny)], [member("etc/a", b"a", mtime=len(written))]]
        application = _build(tmp_path, layers, {"Cmd": ["/app"]}, is_oci=is_oci, is_compressed=is_compressed)
        _entries(application, tmp_path)
        written.add((tmp_path / "application.cpio").read_bytes())
    assert len(written) == 1


def test_what_docker_mounts_or_makes_is_left_to_the_base(tmp_path: Path, tiny: bytes) -> None:
    # As `docker export` has them: empty.
    made = ["dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf", ".dockerenv", "proc/x", "sys/x"]
    layer = [_program("app", tiny), *(member(name, b"") for name in made), member("etc/passwd", b"root:x:0:0::/:\n")]
    entries = _entries(_build(tmp_path, [layer], {"Cmd": ["/app"]}), tmp_path)
    assert list(entries) == ["/app", "/etc", "/etc/passwd"]


def test_working_directory_and_volumes_are_made(tmp_path: Path, tiny: bytes) -> None:
    layer = [_program("app", tiny), link("var", "real"), directory("real", 0o700, uid=5), directory("data", uid=6)]
    config = {"Cmd": ["/app"], "WorkingDir": "/var/work", "Volumes": {"/data": {}, "/cache": {}}}
    entries = _entries(_build(tmp_path, [layer], config), tmp_path)
    assert {"/real/work", "/cache", "/var"} <= set(entries)
    assert (entries["/data"][0].owner, entries["/real"][0].owner, entries["/cache"][0].owner) == ((6, 0), (5, 0), (0, 0))
    with pytest.raises(UnikernelError, match="/app/x is below app, which is no directory"):
        _build(tmp_path, [layer], {**config, "WorkingDir": "/app/x"})


def test_what_a_layer_cannot_have_is_one_warning(tmp_path: Path, tiny: bytes) -> None:
    odd = os.fsdecode(b"pipe\xff")
    capability = {"SCHILY.xattr.security.capability": "\1"}
    layer = [
        _program("app", tiny),
        *(member(name, type=tarfile.FIFOTYPE) for name in ("a", "b", "c", "d", odd)),
        *(member(f"ping{number}", b"", pax_headers=capability) for number in range(2)),
        member("gone", b"", pax_headers=capability),
    ]
    config = {"Cmd": ["/app"], "ExposedPorts": {"7/sctp": {}, "80/tcp": {}}}
    application = _build(tmp_path, [layer, [member(".wh.gone")]], config)
    assert application.warnings == [
        "exposed ports that are neither TCP nor UDP are left out: 7/sctp",
        "pipes are left out: make them at run time: /a, /b, /c and 2 more",
        "extended attributes, such as capabilities of programs, are left out: files have none in a unikernel: /ping0, /ping1",
    ]
    assert "/a" not in _entries(application, tmp_path)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("TRAILER!!!", "TRAILER!!! is no name for a file: it would end the archive"),
        ("TRAILER!!!/a", "TRAILER!!! is no name for a file"),
        (".unikernel/init", r"has /.unikernel/init, where a unikernel has its own PID 1"),
        (".unikernel", r"has /.unikernel/, where"),
        ("a/" + os.fsdecode(b"\xff") * 256, r"/a/\\xff\\xff.*\.\.\. is a name of more than 255 bytes"),
        (f"{'d' * 250}/" * 17 + "a", "more than 4095 bytes"),
        ("a\nb/" + "c" * 256, r"/a\\nb/ccc"),
    ],
)
def test_names_that_a_unikernel_cannot_have_are_named(tmp_path: Path, tiny: bytes, name: str, part: str) -> None:
    with pytest.raises(UnikernelError, match=part):
        _build(tmp_path, [[_program("app", tiny), member(name, b"")]], {"Cmd": ["/app"]})


def test_a_file_with_a_name_that_is_too_long_may_be_hidden_by_a_later_layer(tmp_path: Path, tiny: bytes) -> None:
    layers = [[_program("app", tiny), member("a/" + "b" * 300, b"")], [member(".wh.a")]]
    assert _start(_build(tmp_path, layers, {"Cmd": ["/app"]}))["program"] == "/app"


# --- the start ----------------------------------------------------------------------------------------------------


def test_all_that_an_image_says_of_its_start(tmp_path: Path, tiny: bytes) -> None:
    config = {
        "Entrypoint": ["/bin/app", "--fixed"],
        "Cmd": ["--default"],
        "Env": ["A=1", "PATH=/bin"],
        "WorkingDir": "/srv",
        "User": "app",
        "ExposedPorts": {"8080/tcp": {}},
    }
    application = _build(tmp_path, [[_program("bin/app", tiny)]], config)
    assert _start(application) == {
        "program": "/bin/app",
        "arguments": ["/bin/app", "--fixed"],
        "default_arguments": ["--default"],
        "environment": {"A": "1", "PATH": "/bin"},
        "working_directory": "/srv",
        "user": "app",
        "ports": ["8080/tcp"],
    }
    program = Program.of_facts([application.index.facts])
    assert (program.name, program.kind, program.needs) == ("app", AppKind.STATIC, ())


def test_cmd_alone_names_the_program(tmp_path: Path, tiny: bytes) -> None:
    start = _start(_build(tmp_path, [[_program("bin/app", tiny)]], {"Cmd": ["app", "one"]}))
    assert (start["program"], start["arguments"], start["default_arguments"]) == ("/bin/app", ["app"], ["one"])


def test_an_executable_takes_the_place_of_entrypoint_and_cmd(tmp_path: Path, tiny: bytes) -> None:
    layer = [_program("bin/app", tiny), _program("bin/other", tiny)]
    config = {"Entrypoint": ["app", "--fixed"], "Cmd": ["one"]}
    start = _start(_build(tmp_path, [layer], config, executable="other"))
    assert (start["program"], start["arguments"], start["default_arguments"]) == ("/bin/other", ["other"], [])
    assert _start(_build(tmp_path, [layer], None, executable="/bin/app"))["program"] == "/bin/app"


@pytest.mark.parametrize(
    ("word", "program"),
    [
        ("/usr/bin/app", "/usr/bin/app"),
        ("/bin/app", "/bin/app"),
        ("tool", "/bin/tool"),
        ("./local", "/srv/local"),
        ("sub/../local", "/srv/local"),
        ("../bin/tool", "/usr/bin/app"),
        # Not the one that cannot be run, nor the directory.
        ("both", "/opt/both"),
        ("first", "/usr/bin/first"),
        ("here", "/srv/here"),
    ],
)
def test_a_program_is_found_as_docker_finds_it(tmp_path: Path, tiny: bytes, word: str, program: str) -> None:
    layer = [
        *(link("bin", "usr/bin"), _program("usr/bin/app", tiny), link("usr/bin/tool", "../../bin/app")),
        *(_program("srv/local", tiny), directory("srv/sub"), _program("srv/here", tiny)),
        *(
            member("usr/bin/both", tiny, mode=0o644),
            _program("opt/both", tiny),
            directory("bin2/first"),
            _program("bin/first", tiny),
        ),
    ]
    config = {"Entrypoint": [word], "WorkingDir": "/srv", "Env": ["PATH=/bin2:/none:/bin:/usr/bin:/opt:"]}
    start = _start(_build(tmp_path, [layer], config))
    # /bin is a link, and /bin/first the same as /usr/bin/first.
    assert start["program"] == (program if word != "first" else "/bin/first")
    assert start["arguments"] == [word]


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({}, "has neither an ENTRYPOINT nor a CMD: say by `executable`"),
        ({"Entrypoint": [""]}, "has neither an ENTRYPOINT nor a CMD"),
        ({"Entrypoint": ["/bin/none"]}, "would start '/bin/none', which it does not have: say by"),
        ({"Cmd": ["none"]}, r"would start 'none', which it does not have on its PATH \(/usr/local/sbin:.*:/bin\)"),
        ({"Cmd": ["none"], "Env": ["PATH=/opt"]}, r"on its PATH \(/opt\)"),
        ({"Cmd": ["/etc"]}, "would start '/etc', which it does not have"),
        ({"Cmd": ["/loop"]}, "would start '/loop', which it does not have"),
        ({"Cmd": ["/etc/plain"]}, "/etc/plain, which is not executable"),
        ({"Cmd": ["/etc/text"]}, "/etc/text, which is neither an ELF program nor a script"),
        ({"Cmd": ["/etc/bare"]}, "/etc/bare, which is neither an ELF program nor a script"),
        ({"Cmd": ["/etc/script"]}, "has no /bin/perl, which /etc/script needs to start"),
        ({"Cmd": ["/etc/itself"]}, "would start /etc/itself, a script whose interpreters are scripts"),
        ({"Cmd": ["/etc/broken"]}, "/etc/broken is not a well-formed ELF file"),
        ({"Cmd": ["/etc/empty"]}, "/etc/empty, which is neither"),
    ],
)
def test_what_cannot_start_is_named(tmp_path: Path, config: Any, part: str) -> None:
    layer = [
        *(member("etc/plain", b"#!/bin/sh\n"), _program("etc/text", b"text"), _program("etc/bare", b"#! \n")),
        *(_program("etc/script", b"#!/bin/perl -w\n"), _program("etc/itself", b"#!/etc/itself\n"), link("loop", "loop")),
        *(_program("etc/broken", b"\x7fELF" + bytes(60)), _program("etc/empty", b"")),
    ]
    with pytest.raises(UnikernelError, match=part):
        _build(tmp_path, [layer], config)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"architecture": "arm64"}, r"is for linux/arm64, and the unikernel for x86_64: .*`--platform linux/amd64`"),
        ({"os": "windows"}, "is for windows/amd64, and the unikernel for x86_64"),
        ({"architecture": None}, "is for linux/, and"),
    ],
)
def test_an_image_for_something_else_is_named(tmp_path: Path, tiny: bytes, changes: Any, part: str) -> None:
    with pytest.raises(UnikernelError, match=part):
        _build(tmp_path, [[_program("app", tiny)]], {"Cmd": ["/app"]}, **changes)


def test_a_program_for_another_machine_in_an_image_for_this_one(tmp_path: Path, tiny: bytes) -> None:
    (tmp_path / "tiny").write_bytes(tiny)
    other = for_another_machine(tmp_path / "tiny", tmp_path / "other").read_bytes()
    with pytest.raises(UnikernelError, match="/app is compiled for aarch64"):
        _build(tmp_path, [[_program("app", other)]], {"Cmd": ["/app"]})


def test_a_script_starts_by_its_interpreters_program(tmp_path: Path, tiny: bytes) -> None:
    layer = [
        *(_program("usr/bin/busybox", tiny), link("bin/sh", "/usr/bin/busybox"), _program("run", b"#! /bin/sh -e\nexec app\n")),
        _program("outer", b"#!/run\n"),
    ]
    for word in ("/run", "/outer"):
        application = _build(tmp_path, [layer], {"Entrypoint": [word]})
        assert _start(application)["program"] == word
        assert application.index.facts["program"] == {"name": "busybox", "kind": "static"}


# --- shared libraries ---------------------------------------------------------------------------------------------


class _Dynamic:
    """A program that needs liba.so, which needs libb.so, and a loader."""

    def __init__(self, directory: Path) -> None:
        second = shared_library(directory / "libb.so", "b")
        first = shared_library(directory / "liba.so", "a", needs=[second])
        self.a, self.b = first.read_bytes(), second.read_bytes()
        self.program = linked_program(directory / "app", [first], "-nostdlib", "-nostartfiles", "-Wl,-e,main").read_bytes()
        runpath = linked_program(directory / "own", [first], "-nostdlib", "-nostartfiles", "-Wl,-e,main,-rpath,$ORIGIN/../lib")
        self.with_runpath = runpath.read_bytes()
        self.loader = second.read_bytes()


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> _Dynamic:
    return _Dynamic(tmp_path_factory.mktemp("dynamic"))


def _dynamic_layer(dynamic: _Dynamic) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [
        *(link("lib64", "usr/lib64"), _program(f"usr{_LOADER}", dynamic.loader), _program("app", dynamic.program)),
        *(_program("usr/lib/liba.so", dynamic.a), _program("usr/lib/libb.so.1", dynamic.b), link("usr/lib/libb.so", "libb.so.1")),
    ]


def test_libraries_are_the_images_own(tmp_path: Path, dynamic: _Dynamic) -> None:
    application = _build(tmp_path, [_dynamic_layer(dynamic)], {"Cmd": ["/app"]})
    index = application.index
    # The build takes none from its own machine, for it, nor for another layer.
    assert (index.needs, index.programs) == ({}, {})
    assert index.provides == {
        _LOADER: f"/usr{_LOADER}",
        "liba.so": "/usr/lib/liba.so",
        "libb.so": "/usr/lib/libb.so.1",
        "libb.so.1": "/usr/lib/libb.so.1",
    }
    assert index.facts["program"]["kind"] in ("dynamic", "dynamic-pie")
    files = LayerIndex("files", [IndexEntry("/x", 0o100755)], needs={"liba.so": "/x"}, programs={_LOADER: "/x"})
    check_needs([index, files])


@pytest.mark.parametrize("place", ["opt/x", "a/b/c"])
def test_libraries_are_looked_for_where_the_loader_does(tmp_path: Path, dynamic: _Dynamic, place: str) -> None:
    layer = [*_dynamic_layer(dynamic)[:3], _program(f"{place}/liba.so", dynamic.a), _program(f"{place}/libb.so", dynamic.b)]
    by_configuration = [
        member("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n"),
        member("etc/ld.so.conf.d/x.conf", f"/{place}\n".encode()),
    ]
    _build(tmp_path, [[*layer, *by_configuration]], {"Cmd": ["/app"]})
    _build(tmp_path, [layer], {"Cmd": ["/app"], "Env": [f"LD_LIBRARY_PATH=/none:/{place}"]})
    # Its cache may know of it.
    _build(tmp_path, [layer], {"Cmd": ["/app"]})


def test_a_library_for_another_machine_is_passed_over(tmp_path: Path, dynamic: _Dynamic) -> None:
    (tmp_path / "a").write_bytes(dynamic.a)
    other = for_another_machine(tmp_path / "a", tmp_path / "other").read_bytes()
    own = [
        *(_program("opt/bin/own", dynamic.with_runpath), _program("opt/lib/liba.so", other), _program("opt/lib/libb.so", b"text")),
        directory("opt/lib/libc.so"),
    ]
    application = _build(tmp_path, [[*_dynamic_layer(dynamic), *own]], {"Cmd": ["/opt/bin/own"]})
    assert application.index.facts["program"]["name"] == "own"


@pytest.mark.parametrize(
    ("without", "part"),
    [
        ("liba.so", "lacks the shared library liba.so, which /app needs"),
        ("libb.so.1", "lacks the shared library libb.so, which /usr/lib/liba.so needs"),
        ("ld-linux-x86-64.so.2", f"lacks {_LOADER}, the loader that /app needs to start"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, dynamic: _Dynamic, without: str, part: str) -> None:
    layer = [(info, content) for info, content in _dynamic_layer(dynamic) if not info.name.endswith(f"/{without}")]
    with pytest.raises(UnikernelError, match=part):
        _build(tmp_path, [layer], {"Cmd": ["/app"]})


def test_what_a_program_asks_for_is_known(tmp_path: Path) -> None:
    program = compile_c(tmp_path / "forks", "#include <unistd.h>\nint main(void) { return fork(); }\n", "-static")
    application = _build(tmp_path, [[_program("forks", program.read_bytes())]], {"Cmd": ["/forks"]})
    assert "fork" in {need.what for need in Program.of_facts([application.index.facts]).needs}


# --- the step -----------------------------------------------------------------------------------------------------


def _docker(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "docker"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_step_writes_the_layer_and_says_what_is_left_out(
    tmp_path: Path, tiny: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = tar(_program("app", tiny), member("pipe", type=tarfile.FIFOTYPE))
    image_id = write_image(tmp_path / "image.tar", [layer], {"Cmd": ["/app"]})
    docker = _docker(tmp_path, f'[ "$*" = "image save {image_id}" ] && cat {tmp_path}/image.tar')
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    step = ["docker-image-layer", f"--docker={docker}", f"--image-id={image_id}", "--output=application.cpio"]
    assert cli.main(step) == 0
    assert capsys.readouterr().err == f"unikernel: {image_id}: pipes are left out: make them at run time: /pipe\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["application.cpio", "application.json"]
    assert json.loads((tmp_path / "out/application.json").read_text())["facts"]["start"]["program"] == "/app"
    assert cli.main([*step, "--executable=/none", "--name=src:docker"]) == 1
    assert capsys.readouterr().err.startswith("unikernel: src:docker would start '/none', which it does not have")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "echo first >&2; echo 'Error response from daemon: no such image' >&2; exit 1",
            ": Error response from daemon: no such image$",
        ),
        ("exit 3", "docker ended with status 3$"),
    ],
)
def test_an_engine_that_fails_has_the_last_word(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(UnikernelError, match=f"The Docker image sha256:0123456789ab cannot be saved: .*{part}|{part}"):
        save_docker_image(str(_docker(tmp_path, text)), "sha256:0123456789ab", tmp_path / "image.tar")


def test_a_docker_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match=r"/none cannot be run \(No such file"):
        save_docker_image(f"{tmp_path}/none", "0123456789ab", tmp_path / "image.tar")


@pytest.mark.parametrize("image_id", ["", "greeter:latest", "--help", "sha256:", "sha256:XYZ", "sha512:0123456789ab"])
def test_what_is_no_id_is_refused(tmp_path: Path, image_id: str) -> None:
    with pytest.raises(UnikernelError, match="is no id of a Docker image"):
        save_docker_image("/bin/true", image_id, tmp_path / "image.tar")


def test_a_program_that_ends_well_without_an_archive(tmp_path: Path) -> None:
    save_docker_image("/bin/true", "0123456789ab", tmp_path / "image.tar")
    with pytest.raises(UnikernelError, match="image.tar of a Docker image is damaged or cut off"):
        build_docker_application(tmp_path / "image.tar", machine="x86_64", scratch=tmp_path)
