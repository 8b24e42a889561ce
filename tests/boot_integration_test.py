"""Boots the images of the sample services and of tests/images, and talks to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from machine import Machine, boot, free_port, http_get
from unikernel.testing.signing import make_key

SERVICES = "src.services"
IMAGES = "tests.images"


def test_c_service_answers_http_in_24_mib_with_dhcp() -> None:
    port = free_port()
    with Machine(f"{SERVICES}.hello/unikernel.elf", options=["-p", f"{port}:8080"]) as machine:
        assert http_get(port, "/there") == (200, "Hello from a unikernel at /there\n")
        machine.wait_for("hello: listening on port 8080")


def test_python_service_answers_http() -> None:
    port = free_port()
    with Machine(f"{SERVICES}.greeter/unikernel.elf", options=["-p", f"{port}:8080"]):
        status, body = http_get(port, "/greet?name=%3CAda%3E")
    assert (status, "Hello, &lt;Ada&gt;!" in body) == (200, True)


def test_second_python_service_answers_with_its_own_distribution() -> None:
    port = free_port()
    with Machine(f"{SERVICES}.wordcount/unikernel.elf", options=["-p", f"{port}:8080"]):
        assert http_get(port, "/?text=b+a+b") == (200, '{"a":1,"b":2}')


def test_declared_ports_are_forwarded_and_a_used_one_is_a_clear_error() -> None:
    with Machine(f"{SERVICES}.hello/unikernel.elf") as machine:
        machine.wait_for("hello: listening")
        assert http_get(8080, "/")[0] == 200
        status, console = boot(f"{SERVICES}.hello/unikernel.elf")
    assert status == 1
    assert "Port 8080/tcp of 127.0.0.1 cannot be forwarded" in console


@pytest.mark.parametrize("machine_type", ["microvm", "q35"])
def test_arguments_environment_and_exit_status_arrive(machine_type: str) -> None:
    status, console = boot(
        f"{SERVICES}.arguments/unikernel.elf",
        options=["--machine", machine_type, "-e", "COLOUR=dark blue"],
        arguments=["--status=200", "two words", "", 'quote"d', "per%cent,comma"],
    )
    assert status == 200
    lines = console.splitlines()
    assert "argument 0: /app/arguments" in lines
    assert "argument 1: --greeting=hello, world" in lines
    assert "argument 3: two words" in lines
    assert "argument 4: " in lines
    assert 'argument 5: quote"d' in lines
    assert "argument 6: per%cent,comma" in lines
    assert "environment: SERVICE=arguments" in lines
    assert "environment: COLOUR=dark blue" in lines
    assert "unikernel: exited with status 200" in lines


def test_a_program_without_a_kernel_takes_arguments_and_ends_with_its_status() -> None:
    assert boot(f"{SERVICES}.sieve/unikernel.elf") == (10, "2 3 5 7 11 13 17 19 23 29\n")
    # Its own argument is there already; one more is one too many.
    status, console = boot(f"{SERVICES}.sieve/unikernel.elf", arguments=["7"])
    assert status == 255 and console.startswith("usage: sieve LIMIT")
    status, console = boot(f"{SERVICES}.sieve/unikernel.elf", arguments=["two words"])
    assert status == 1 and "picolibc cannot be given 'two words' on its command line" in console


def test_image_boots_by_itself_without_our_runner() -> None:
    command = ["qemu-system-x86_64", "-M", "microvm,acpi=off", "-cpu", "max", "-m", "32", "-nographic", "-no-reboot"]
    result = subprocess.run(
        [*command, "-kernel", f"{SERVICES}.arguments/unikernel.elf"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=120,
    )
    assert b"environment: SERVICE=arguments" in result.stdout
    assert b"unikernel: exited with status 0" in result.stdout


def test_static_address() -> None:
    port = free_port()
    with Machine(f"{IMAGES}/static-address.elf", options=["-p", f"{port}:8080"]):
        assert http_get(port, "/")[0] == 200


def test_dynamically_linked_program() -> None:
    status, console = boot(f"{IMAGES}/dynamic.elf", arguments=["--status=3"])
    assert (status, "argument 1: --status=3" in console) == (3, True)


def test_dynamically_linked_cplusplus_program_with_threads_and_exceptions() -> None:
    assert boot(f"{IMAGES}/cplusplus.elf") == (0, "greet: Ada\nunikernel: exited with status 0\n")


def test_program_in_an_archive_with_its_working_directory() -> None:
    status, console = boot(f"{IMAGES}/archive.elf", arguments=["--status=5"])
    assert (status, "argument 0: /tests.images/dynamic-arguments" in console) == (5, True)


def test_one_cpu_and_the_internet_protocol_by_default() -> None:
    """With other options: `tests/machines_integration_test.py`, which compiles another kernel."""
    assert boot(f"{IMAGES}/one-cpu.elf") == (0, "CPUs: 1\nIP: yes\nunikernel: exited with status 0\n")


def test_files_laid_out_in_place_are_ordinary_files() -> None:
    status, console = boot(f"{IMAGES}/files-in-place.elf")
    assert status == 0
    assert "NO: " not in console
    assert console.count("yes: ") == 15


def test_pid_1_takes_little_of_an_image() -> None:
    """It is linked with musl: with glibc it would be twenty times as large."""
    manifest = json.loads(Path(f"{SERVICES}.arguments/unikernel.json").read_text())
    sizes = {layer["name"]: int(layer["size"]) for layer in manifest["rootfs"]["layers"]}
    assert sizes["configuration"] < 60_000


def test_out_of_memory_says_so() -> None:
    status, console = boot(f"{IMAGES}/out-of-memory.elf")
    assert status == 128 + 9
    assert "unikernel: killed: out of memory" in console


@pytest.fixture(scope="module")
def probe() -> dict[str, Any]:
    status, console = boot(f"{IMAGES}/python-probe.elf")
    assert status == 0, console
    (line,) = [line for line in console.splitlines() if line.startswith("PROBE ")]
    document: dict[str, Any] = json.loads(line[len("PROBE ") :])
    return document


def test_names_resolve_and_unknown_ones_fail_quickly_without_dns(probe: dict[str, Any]) -> None:
    assert probe["localhost"] in ("127.0.0.1", "::1")
    assert probe["unknown_host"] is None
    assert probe["unknown_host_seconds"] < 5


def test_python_finds_what_it_looks_for(probe: dict[str, Any]) -> None:
    assert probe["certificates"] > 50
    assert (probe["random_bytes"], probe["child"], probe["sqlite"], probe["threads"]) == (16, 42, 7, 1)
    assert probe["zlib"] == 1000


def test_time_zone_data_is_there_on_request(probe: dict[str, Any]) -> None:
    assert (probe["paris"], probe["local"]) == (14, 1)


def test_declared_files_arguments_and_names_arrive(probe: dict[str, Any]) -> None:
    assert (probe["settings"], probe["settings_mode"]) == ("colour = green", "0o640")
    assert probe["arguments"] == ["one", "two words"]
    assert (probe["hostname"], probe["directory"]) == ("probe", "/")


def test_no_qemu_is_left_behind_when_the_runner_is_killed() -> None:
    port = free_port()
    with Machine(f"{SERVICES}.hello/unikernel.elf", options=["-p", f"{port}:8080"]) as machine:
        machine.wait_for("hello: listening")
        [qemu] = psutil.Process(machine.process.pid).children()
        assert qemu.name().startswith("qemu")
        machine.process.kill()
        machine.process.wait()
        _, alive = psutil.wait_procs([qemu], timeout=10)
        # One that has ended and that nobody has asked about is a zombie.
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_manifest_is_read_from_an_image_that_was_moved(tmp_path: Any) -> None:
    moved = tmp_path / "moved"
    moved.write_bytes(open(f"{SERVICES}.hello/unikernel.elf", "rb").read())
    result = subprocess.run(
        [sys.executable, "-m", "unikernel", "inspect", "--json", str(moved)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    manifest = json.loads(result.stdout)
    assert manifest == json.load(open(f"{SERVICES}.hello/unikernel.json"))
    assert manifest["target"] == "src/services/hello:unikernel"
    assert manifest["library_os"]["name"] == "linux"
    assert manifest["ports"] == [{"guest_port": 8080, "host_port": 8080, "protocol": "tcp"}]


@pytest.mark.parametrize(
    "damaged", ["unikernel.elf", "unikernel.elf.sigstore.json", "unikernel.elf.intoto.jsonl", "unikernel.cdx.json"]
)
def test_an_image_whose_signatures_do_not_hold_is_not_booted(tmp_path: Path, damaged: str) -> None:
    image = tmp_path / "image" / "unikernel.elf"
    shutil.copytree(f"{SERVICES}.arguments", image.parent)
    assert boot(image)[0] == 0
    file = image.parent / damaged
    content = file.read_bytes()
    file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    status, console = boot(image)
    assert status == 1
    assert console.startswith(f"unikernel: {image} is not booted: ")
    file.write_bytes(content)
    other = tmp_path / "other.pub"
    other.write_text(make_key(tmp_path).public.pem)
    status, console = boot(image, key=other)
    assert (status, "signed by a key that is not among those that are trusted here" in console) == (1, True)
