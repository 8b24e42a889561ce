from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unikernel.deploy.workload import ServicePort, Workload
from unikernel.errors import UnikernelError
from unikernel.testing.workloads import CONTAINER_IMAGE, IMAGE_PATH, UNIKERNEL_IMAGE, workload

_DOCUMENT: dict[str, Any] = {
    "name": "greeter",
    "memory": 128 << 20,
    "unikernel_image": UNIKERNEL_IMAGE,
    "container_image": CONTAINER_IMAGE,
    "image_path": IMAGE_PATH,
}


def _read(tmp_path: Path, text: str) -> Workload:
    path = tmp_path / "workload.json"
    path.write_text(text)
    return Workload.read(path)


def test_a_workload_is_read_from_json(tmp_path: Path) -> None:
    ports = [{"port": 8080, "name": "http"}, {"port": 53, "protocol": "udp"}]
    read = _read(tmp_path, json.dumps({**_DOCUMENT, "ports": ports, "labels": {"team": "web"}, "replicas": 3}))
    assert read == Workload(
        "greeter",
        128 << 20,
        unikernel_image=UNIKERNEL_IMAGE,
        container_image=CONTAINER_IMAGE,
        image_path=IMAGE_PATH,
        ports=(ServicePort(8080, "tcp", "http"), ServicePort(53, "udp", "")),
        labels={"team": "web"},
        replicas=3,
    )
    assert (read.cpus, read.runtime_class, [port.label for port in read.ports]) == (1, "urunc", ["http", "udp-53"])


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        # References without a digest, with another one, without a host, with spaces.
        ({"unikernel_image": "registry.example.com/greeter:1"}, "unikernel_image: 'registry.example.com/greeter:1' is "),
        ({"container_image": "registry.example.com/greeter"}, "container_image: 'registry.example.com/greeter' is no image"),
        ({"container_image": CONTAINER_IMAGE[:-1]}, "is no image of a registry by digest"),
        ({"container_image": CONTAINER_IMAGE.replace("2", "G")}, "is no image of a registry by digest"),
        ({"container_image": f"greeter@sha256:{'2' * 64}"}, "is no image of a registry by digest"),
        ({"container_image": f"team/greeter@sha256:{'2' * 64}"}, "is no image of a registry by digest"),
        ({"container_image": f"localhost/Greeter@sha256:{'2' * 64}"}, "is no image of a registry by digest"),
        ({"container_image": f"{CONTAINER_IMAGE} "}, "is no image of a registry by digest"),
        ({"container_image": f"{CONTAINER_IMAGE}\n"}, "container_image: .* is no line of text"),
        ({"unikernel_image": "", "container_image": ""}, "neither a unikernel_image nor a container_image"),
        ({"image_path": ""}, "image_path: it is empty"),
        ({"image_path": "unikernel/greeter.elf"}, "image_path: 'unikernel/greeter.elf' is no absolute path"),
        ({"image_path": "/unikernel/../greeter.elf"}, "is no absolute path"),
        ({"image_path": "//greeter.elf"}, "is no absolute path"),
        ({"image_path": "/"}, "is no absolute path"),
        ({"kind": "iso"}, "kind: 'iso' is none of elf, disk"),
        ({"kind": "disk", "kernel_arguments": "quiet"}, "kernel_arguments: they are for an ELF file"),
        ({"unikernel_image": "", "kernel_arguments": "quiet"}, "kernel_arguments: they are for an ELF file"),
        ({"kernel_arguments": "quiet\ndebug"}, "kernel_arguments: .* is no line of text"),
        ({"kind": "disk", "deploy_as": "unikernel"}, "deploy_as: 'unikernel' is none of .*: container, virtual-machine"),
        ({"container_image": "", "deploy_as": "container"}, "deploy_as: 'container' is none of .*: unikernel, virtual-machine"),
        # Names.
        ({"name": ""}, "name: '' is no name in a cluster"),
        ({"name": "Greeter"}, "name: 'Greeter' is no name"),
        ({"name": "gree_ter"}, "name: 'gree_ter' is no name"),
        ({"name": "7zip"}, "name: '7zip' is no name .* a letter first"),
        ({"name": "greeter-"}, "name: 'greeter-' is no name"),
        ({"name": "g" * 64}, "at most 63"),
        ({"name": "greeter\n"}, "name: .* is no line of text"),
        ({"name": 7}, "name: 7 is no line of text"),
        ({"target": "a\nb"}, "target: .* is no line of text"),
        ({"namespace": "a.b"}, "namespace: 'a.b' is no name"),
        ({"service_account": "A"}, "service_account: 'A' is no name"),
        ({"runtime_class": ""}, "runtime_class: '' is no name"),
        # Numbers.
        ({"replicas": 0}, "replicas: 0 is no number from 1"),
        ({"replicas": -1}, "replicas: -1 is no number from 1"),
        ({"replicas": True}, "replicas: True is no number from 1"),
        ({"replicas": "2"}, "replicas: '2' is no number"),
        ({"cpus": 0}, "cpus: 0 is no number from 1"),
        ({"cpus": 1.5}, "cpus: 1.5 is no number from 1"),
        ({"memory": 128}, r"memory: 128 is no number from 1048576 \(it is in bytes\)"),
        ({"memory": "128Mi"}, "memory: '128Mi' is no number"),
        # Labels.
        ({"labels": ["a"]}, r"labels: \['a'\] is no object"),
        ({"labels": {"a": 1}}, "labels: 1 is no line of text"),
        ({"labels": {"": "a"}}, "labels: =a is no label"),
        ({"labels": {"a": "b c"}}, "labels: a=b c is no label"),
        ({"labels": {"a": "-b"}}, "labels: a=-b is no label"),
        ({"labels": {"a": "b" * 64}}, "is no label"),
        ({"labels": {"A/b": "c"}}, "labels: 'A', in 'A/b', is no domain"),
        ({"labels": {"/b": "c"}}, "labels: '', in '/b', is no domain"),
        ({"labels": {"a/b/c": "d"}}, "labels: 'a/b', in 'a/b/c', is no domain"),
        ({"labels": {"app.kubernetes.io/name": "other"}}, "labels: app.kubernetes.io/name is always set"),
        # Ports.
        ({"ports": [{"port": 80}, {"port": 80, "name": "web"}]}, "ports: 80/tcp is there twice"),
        ({"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}, "ports: two are called 'a'"),
        ({"ports": [{"port": 80, "name": "tcp-81"}, {"port": 81}]}, "ports: two are called 'tcp-81'"),
        ({"ports": [{"port": 0}]}, "ports: 0 is no port"),
        ({"ports": [{"port": 65536}]}, "ports: 65536 is no port"),
        ({"ports": [{"port": "80"}]}, "ports: '80' is no port"),
        ({"ports": [{"port": True}]}, "ports: True is no port"),
        ({"ports": [{"port": 80, "protocol": "sctp"}]}, "ports: 'sctp', of port 80, is none of tcp, udp"),
        ({"ports": [{"port": 80, "name": "sixteen-letters-"}]}, "ports: 'sixteen-letters-' is no name of a port"),
        ({"ports": [{"port": 80, "name": "sixteenletters16"}]}, "at most 15"),
        ({"ports": [{"port": 80, "name": "8080"}]}, "ports: '8080' is no name of a port"),
        ({"ports": [{"port": 80, "name": "a--b"}]}, "ports: 'a--b' is no name of a port"),
        ({"ports": [{"port": 80, "name": "HTTP"}]}, "ports: 'HTTP' is no name of a port"),
        ({"ports": [{"port": 80, "host": 8080}]}, "ports: each has 'host', which is none of port, protocol, name"),
        ({"ports": [{"name": "a"}]}, "ports: each has no 'port'"),
        ({"ports": [80]}, "ports: each is no JSON object"),
        ({"ports": "80"}, "ports: '80' is no list"),
        # The document.
        ({"image": "a"}, "it has 'image', which is none of name, memory, target"),
    ],
)
def test_bad_input_is_one_clear_error(changes: dict[str, Any], part: str, tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match=part) as caught:
        _read(tmp_path, json.dumps({**_DOCUMENT, **changes}))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'workload.json'} does not describe a workload: ")
    assert message.count("\n") == 0


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "Expecting value"),
        ("[]", "it is no JSON object"),
        ("{}", "it has no 'name'"),
        ('{"name": "a"}', "it has no 'memory'"),
        ('{"name": "a", "memory": 1048576}', "neither a unikernel_image nor a container_image"),
    ],
)
def test_what_is_no_workload_is_named(text: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match=part):
        _read(tmp_path, text)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="none.json cannot be read: No such file"):
        Workload.read(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff")
    with pytest.raises(UnikernelError, match="binary.json does not describe a workload"):
        Workload.read(tmp_path / "binary.json")


def test_a_workload_in_code_is_checked_too() -> None:
    with pytest.raises(ValueError, match="^replicas: 0 "):
        workload(replicas=0)


@pytest.mark.parametrize(
    ("changes", "choices", "choice"),
    [
        ({}, ("container", "unikernel", "virtual-machine"), "container"),
        ({"deploy_as": "unikernel"}, ("container", "unikernel", "virtual-machine"), "unikernel"),
        ({"container_image": ""}, ("unikernel", "virtual-machine"), "unikernel"),
        ({"unikernel_image": ""}, ("container",), "container"),
        ({"kind": "disk", "image_path": ""}, ("container", "virtual-machine"), "container"),
        ({"kind": "disk", "container_image": ""}, ("virtual-machine",), "virtual-machine"),
    ],
)
def test_what_it_can_be_deployed_as(changes: dict[str, Any], choices: tuple[str, ...], choice: str) -> None:
    made = workload(**changes)
    assert (made.choices, made.choice) == (choices, choice)


@pytest.mark.parametrize(
    "image",
    [
        f"localhost/a@sha256:{'0' * 64}",
        f"registry:5000/a@sha256:{'0' * 64}",
        f"[2001:db8::1]:5000/a/b@sha256:{'0' * 64}",
        f"registry.example.com/a/b.c_d__e--f/g@sha256:{'0' * 64}",
    ],
)
def test_images_by_digest(image: str) -> None:
    assert workload(unikernel_image=image, container_image=image).container_image == image
