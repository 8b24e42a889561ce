"""What an image starts, and how its settings and its application's go together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unikernel import cli
from unikernel.errors import UnikernelError
from unikernel.image.layers import start_and_archives
from unikernel.image.manifest_pb2 import Start
from unikernel.image.spec import ImageSpec, Port
from unikernel.rootfs.cpio import read_cpio_bytes
from unikernel.rootfs.layer import Layer, LayerIndex

_PLAIN: dict[str, Any] = {"program": "/app/a", "arguments": ["a", "fixed"], "environment": {"A": "1", "B": "2"}}
_DOCKER = {
    **_PLAIN,
    "default_arguments": ["default"],
    "working_directory": "/srv",
    "user": "app",
    "ports": ["8080/tcp", "53/udp"],
}


def _application(tmp_path: Path, start: dict[str, Any], layer: Layer | None = None) -> Path:
    layer = layer or Layer("application")
    layer.add_bytes("/etc/passwd", b"root:x:0:0::/root:\napp:x:1000:1001::/home/app:\n")
    layer.write(tmp_path / "application.cpio", LayerIndex("application", [], facts={"start": start}))
    return tmp_path / "application.cpio"


def _started(tmp_path: Path, start: dict[str, Any], has_users: bool = True, **settings: Any) -> tuple[ImageSpec, Start]:
    spec = ImageSpec("image", **settings)
    spec, started, _ = start_and_archives(spec, [_application(tmp_path, start)], tmp_path, has_users=has_users)
    return spec, started


def test_an_application_that_says_nothing_else_starts_in_the_root_directory(tmp_path: Path) -> None:
    spec, start = _started(tmp_path, _PLAIN, arguments=("more",), environment={"B": "3"})
    assert list(start.arguments) == ["a", "fixed", "more"]
    assert list(start.environment) == ["A=1", "B=3"]
    assert (start.working_directory, start.user, spec.ports) == ("/", "", ())


def test_tests_start_instead_of_an_application_with_all_that_it_has(tmp_path: Path) -> None:
    instead = {"program": "/usr/bin/python3.11", "arguments": ["python3.11", "run.py"], "default_arguments": []}
    Layer("tests").write(tmp_path / "tests.cpio", LayerIndex("tests", [], facts={"start_instead": instead}))
    layers = [tmp_path / "tests.cpio", _application(tmp_path, _DOCKER)]
    _, start, _ = start_and_archives(ImageSpec("image", environment={"B": "3"}), layers, tmp_path)
    assert (start.program, list(start.arguments)) == ("/usr/bin/python3.11", ["python3.11", "run.py"])
    assert list(start.environment) == ["A=1", "B=3", "HOME=/home/app"]
    assert (start.working_directory, start.user) == ("/srv", "1000:1001")


def test_what_the_settings_leave_open_is_the_applications(tmp_path: Path) -> None:
    spec, start = _started(tmp_path, _DOCKER)
    assert list(start.arguments) == ["a", "fixed", "default"]
    assert list(start.environment) == ["A=1", "B=2", "HOME=/home/app"]
    assert (start.working_directory, start.user) == ("/srv", "1000:1001")
    assert spec.ports == (Port(8080, 8080), Port(53, 53, "udp"))
    assert spec.user == "app"


def test_settings_win(tmp_path: Path) -> None:
    spec, start = _started(
        tmp_path,
        _DOCKER,
        arguments=("other",),
        environment={"HOME": "/elsewhere"},
        working_directory="/",
        user="0",
        ports=(Port(80, 8000),),
    )
    assert list(start.arguments) == ["a", "fixed", "other"]
    assert list(start.environment) == ["A=1", "B=2", "HOME=/elsewhere"]
    assert (start.working_directory, start.user, spec.ports) == ("/", "0:0", (Port(80, 8000),))


def test_a_docker_image_without_a_user_is_at_home_as_root(tmp_path: Path) -> None:
    _, start = _started(tmp_path, {**_DOCKER, "user": ""})
    assert (start.user, "HOME=/root" in start.environment) == ("", True)


def test_a_user_of_any_application_is_looked_up(tmp_path: Path) -> None:
    assert _started(tmp_path, _PLAIN, user="app:5")[1].user == "1000:5"
    with pytest.raises(UnikernelError, match="user: 'none' names 'none', which is no user"):
        _started(tmp_path, _PLAIN, user="none")


def test_a_library_os_without_users_gets_none(tmp_path: Path) -> None:
    _, start = _started(tmp_path, _DOCKER, has_users=False)
    assert (start.user, "HOME=/home/app" in start.environment) == ("", True)


def test_the_base_makes_room_for_links(tmp_path: Path) -> None:
    layer = Layer("application")
    layer.add_symlink("/run", "var/run")
    layer.add_directory("/var/run")
    layer.add_symlink("/var/tmp", "/tmp")
    _, _, archives = start_and_archives(ImageSpec("image"), [_application(tmp_path, _PLAIN, layer)], tmp_path)
    base = {entry.path for entry, _ in read_cpio_bytes(archives[0].path.read_bytes())}
    assert not {"run", "var/tmp"} & base
    assert {"tmp", "etc/passwd", "var/run"} <= base


def test_layers_that_do_not_go_together_are_refused_before_the_kernel_meets_them(tmp_path: Path) -> None:
    files = Layer("files")
    files.add_symlink("/srv", "elsewhere")
    files.write(tmp_path / "files.cpio", LayerIndex("files", []))
    layer = Layer("application")
    layer.add_bytes("/srv/a", b"")
    application = _application(tmp_path, _PLAIN, layer)
    with pytest.raises(UnikernelError, match="/srv is no directory in the files layer, and one in a layer below it"):
        start_and_archives(ImageSpec("image"), [application, tmp_path / "files.cpio"], tmp_path)


def test_a_container_is_started_as_the_unikernel_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _application(tmp_path, _DOCKER)
    (tmp_path / "spec.json").write_text(ImageSpec("image").to_json())
    (tmp_path / "settings.json").write_text('{"tag": "a:latest"}')
    step = ["container", "--spec=spec.json", "--settings=settings.json", "--layer=application.cpio", "--layout=out"]
    assert cli.main([*step, "--archive=out.tar"]) == 0
    blobs = [path.read_bytes() for path in (tmp_path / "out/blobs/sha256").iterdir()]
    [config] = [json.loads(blob)["config"] for blob in blobs if b'"Entrypoint"' in blob]
    assert (config["Entrypoint"], config["User"], config["WorkingDir"]) == (["/app/a", "fixed", "default"], "app", "/srv")
    assert config["ExposedPorts"] == {"8080/tcp": {}, "53/udp": {}}
    assert "HOME=/home/app" in config["Env"]
