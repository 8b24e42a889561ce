from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from unikernel.hypervisors.configuration import write_configuration
from unikernel.hypervisors.machine import Choices
from unikernel.image.manifest_pb2 import Network
from unikernel.testing.cloud_hypervisor import vm_config
from unikernel.testing.hypervisors import pvh_image

# It prints where it was started and its arguments, each with a NUL behind it.
_IMPOSTOR = '#!/bin/sh\nprintf \'%s\\0\' "$PWD" "$@"\n'


def _called(script: Path, *arguments: str) -> tuple[Path, list[str]]:
    """Directory and arguments that cloud-hypervisor gets from the script, called by a shell from elsewhere."""
    programs = script.parent / "programs"
    programs.mkdir()
    (programs / "cloud-hypervisor").write_text(_IMPOSTOR)
    (programs / "cloud-hypervisor").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    printed = subprocess.run(
        [str(script), *arguments], cwd="/", env=environment, stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    directory, *words = printed.split("\0")[:-1]
    return Path(directory), words


def _script(image: Path, **choices: Any) -> Path:
    script = write_configuration(image, "cloud-hypervisor", choices=Choices(**choices))
    assert script == image.with_name(image.stem + ".cloud-hypervisor.sh")
    return script


def test_a_command_says_what_the_image_declares(tmp_path: Path) -> None:
    script = _script(pvh_image(tmp_path / "unikernel.elf", cpus=2, memory_bytes=(64 << 20) + 1))
    directory, words = _called(script, "--api-socket", "/run/x y")
    assert directory.samefile(tmp_path)
    assert words[-2:] == ["--api-socket", "/run/x y"]
    assert vm_config(words[:-2]) == {
        "payload": {"kernel": "unikernel.elf"},
        "cpus": {"boot_vcpus": 2, "max_vcpus": 2},
        "memory": {"size": 65 << 20},
        "net": [{"tap": "tap0"}],
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
    }


def test_an_image_without_a_network_has_no_card(tmp_path: Path) -> None:
    _, words = _called(_script(pvh_image(tmp_path / "unikernel.elf", network=Network(mode="none"))))
    assert "net" not in vm_config(words)


@pytest.mark.parametrize("name", ["a b", "a,b='c'\"&<é>", "-dash", "$(id)", "`id`", "back\\slash", "*", "#"])
def test_any_path_is_one_word(tmp_path: Path, name: str) -> None:
    directory = tmp_path / f"in {name}"
    directory.mkdir()
    image = pvh_image(directory / f"{name}.elf")
    started, words = _called(_script(image))
    assert (started / vm_config(words)["payload"]["kernel"]).samefile(image)


def test_an_absolute_path_needs_no_directory(tmp_path: Path) -> None:
    directory, words = _called(_script(pvh_image(tmp_path / "unikernel.elf"), image_path="/srv/a b.elf", attachment="vm.1-net"))
    config = vm_config(words)
    assert (directory, config["payload"]["kernel"], config["net"]) == (Path("/"), "/srv/a b.elf", [{"tap": "vm.1-net"}])


def test_comments_say_what_the_host_has_to_bring(tmp_path: Path) -> None:
    network = Network(mode="static", address="10.0.0.2/24", gateway="10.0.0.1")
    comments = [
        line
        for line in _script(pvh_image(tmp_path / "a.elf", network=network, ports=[(80, 8080, "tcp")])).read_text().splitlines()[1:]
        if line.startswith("#")
    ]
    assert comments == [
        "# Its network card is attached to the tap device tap0, which has to be there.",
        "# It has the address 10.0.0.2/24, and its gateway at 10.0.0.1.",
        "# It listens on 80/tcp at its own address: no port of the host is forwarded.",
        "# cloud-hypervisor forwards no ports: what the image declares (8080 to 80/tcp) takes a rule of the host's.",
    ]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--kernel", "a", "--memory", "64M"],
        ["--kernel", "a", "--memory", "size=64 M"],
        ["--kernel", "a", "--cpus", "boot=0"],
        ["--kernel", "a", "--cpus", "boot=2,max=1"],
        ["--kernel", "a", "--net", "tap=a-name-far-too-long"],
        ["--kernel", "a", "--net", 'tap="a'],
        ["--kernel", "a", "--net", "bridge=br0"],
        ["--kernel", "a", "--serial", "stdio"],
        ["--kernel", "a", "--kernel", "b"],
        ["--image", "a"],
    ],
)
def test_the_grammar_refuses_what_cloud_hypervisor_would(words: list[str]) -> None:
    with pytest.raises(ValueError):
        vm_config(words)
