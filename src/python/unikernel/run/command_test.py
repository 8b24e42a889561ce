from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.manifest_pb2 import Manifest, Network, Rootfs
from unikernel.image.spec import Port
from unikernel.library_os import find_library_os
from unikernel.run.command import BootFiles, check_memory, choose_machine, find_program, qemu_command
from unikernel.run.options import RunOptions
from unikernel.testing.manifests import make_manifest

_LINUX = find_library_os("linux")
_NO_OPTIONS = RunOptions()


def _command(
    manifest: Manifest, options: RunOptions = _NO_OPTIONS, ports: tuple[Port, ...] = (), machine: str = "microvm"
) -> list[str]:
    return qemu_command("qemu", _LINUX, _LINUX.machines[machine], BootFiles("image.elf"), manifest, options, ports, "tcg")


def _value(command: list[str], option: str) -> str:
    assert command.count(option) == 1
    return command[command.index(option) + 1]


def _devices(command: list[str]) -> list[str]:
    return [word for previous, word in zip(command, command[1:]) if previous == "-device"]


# What a machine with virtio consoles has for the application's streams, and the words that tell the guest.
_CONSOLES = ["virtconsole,chardev=stdout,nr=0", "virtconsole,chardev=stderr,nr=1", "virtconsole,chardev=crash,nr=2"]
_STREAMS = "UNIKERNEL_STDOUT=/dev/hvc0 UNIKERNEL_STDERR=/dev/hvc1 UNIKERNEL_CRASH=/dev/hvc2"


def test_an_image_is_booted_as_it_says() -> None:
    command = _command(make_manifest(memory_bytes=(64 << 20) + 1, cpus=2))
    assert command[0] == "qemu"
    assert _value(command, "-kernel") == "image.elf"
    assert _value(command, "-M") == "microvm,acpi=off"
    assert (_value(command, "-accel"), _value(command, "-cpu")) == ("tcg", "max")
    assert (_value(command, "-m"), _value(command, "-smp")) == ("65M", "2")
    assert _value(command, "-netdev") == "user,id=net0"
    assert _devices(command) == ["virtio-net-device,netdev=net0", "virtio-serial-device,max_ports=3", *_CONSOLES]
    assert _value(command, "-append") == _STREAMS


def test_options_take_precedence_over_the_image() -> None:
    command = _command(make_manifest(), RunOptions(memory=256 << 20, cpus=4), machine="q35")
    assert (_value(command, "-m"), _value(command, "-smp")) == ("256M", "4")
    assert _devices(command) == ["virtio-net-pci,netdev=net0", "virtio-serial-pci,max_ports=3,ioeventfd=off", *_CONSOLES]


def test_an_image_without_a_network_gets_no_card() -> None:
    command = _command(make_manifest(network=Network(mode="none")))
    assert "-netdev" not in command
    assert not [device for device in _devices(command) if "net" in device]


def test_ports_are_forwarded() -> None:
    command = _command(make_manifest(), RunOptions(host="0.0.0.0"), (Port(80, 8080), Port(53, 5353, "udp")))
    assert _value(command, "-netdev") == "user,id=net0,hostfwd=tcp:0.0.0.0:8080-:80,hostfwd=udp:0.0.0.0:5353-:53"


def test_the_network_is_laid_around_a_static_address() -> None:
    network = Network(mode="static", address="192.168.7.20/24", gateway="192.168.7.1")
    command = _command(make_manifest(network=network), ports=(Port(80, 8080),))
    expected = "user,id=net0,net=192.168.7.20/24,host=192.168.7.1,hostfwd=tcp:127.0.0.1:8080-192.168.7.20:80"
    assert _value(command, "-netdev") == expected


@pytest.mark.parametrize(
    ("arguments", "environment", "appended"),
    [
        (["--port", "80"], {}, "UNIKERNEL_ARGS=--port,80"),
        (["a b", "", "c,d"], {}, "UNIKERNEL_ARGS=a%20b,%00,c%2Cd"),
        ([""], {}, "UNIKERNEL_ARGS=%00"),
        ([], {"A": "1", "B": ""}, "UNIKERNEL_ENV=A%3D1,B%3D"),
        (['"\n%/'], {"A": "ü"}, "UNIKERNEL_ENV=A%3D%C3%BC UNIKERNEL_ARGS=%22%0A%25%2F"),
    ],
)
def test_arguments_and_environment_are_encoded_for_the_command_line(
    arguments: list[str], environment: dict[str, str], appended: str
) -> None:
    assert (
        _value(_command(make_manifest(), RunOptions(arguments=arguments, environment=environment)), "-append")
        == f"{_STREAMS} {appended}"
    )


def test_every_character_survives_the_encoding() -> None:
    argument = "".join(map(chr, range(1, 300)))
    appended = _value(_command(make_manifest(), RunOptions(arguments=[argument])), "-append")
    encoded = appended[len(_STREAMS) + 1 :]
    assert unquote(encoded.partition("=")[2]) == argument
    assert set(encoded) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~%=")


def test_what_the_kernel_would_cut_off_is_refused() -> None:
    manifest = make_manifest(command_line="x" * 100)
    _command(manifest, RunOptions(arguments=["y" * 1500]))
    with pytest.raises(UnikernelError, match="take 2095 bytes of the kernel's command line, which has room for 1692"):
        _command(manifest, RunOptions(arguments=["y" * 2000]))


def test_too_little_memory_is_refused_with_what_is_needed() -> None:
    manifest = make_manifest(rootfs=Rootfs(size=40 << 20))
    check_memory(_LINUX, manifest, RunOptions())
    check_memory(_LINUX, manifest, RunOptions(memory=64 << 20))
    with pytest.raises(UnikernelError, match="40 MiB of memory are too little: a needs at least 58 MiB to boot.* declares 64 MiB"):
        check_memory(_LINUX, manifest, RunOptions(memory=40 << 20))


def test_what_boots_an_image_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = choose_machine(_LINUX, "q35")
    assert machine is _LINUX.machines["q35"]
    with pytest.raises(UnikernelError, match="linux is not booted on a machine 'pc', only on microvm, q35"):
        choose_machine(_LINUX, "pc")
    program = tmp_path / "my qemu"
    program.touch(0o755)
    assert find_program(_LINUX, machine, str(program)) == str(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program(_LINUX, machine, "my qemu") == str(program)
    with pytest.raises(UnikernelError, match="There is no program other to boot the image with"):
        find_program(_LINUX, machine, "other")
    with pytest.raises(
        UnikernelError, match=r"There is no qemu-system-x86_64 on PATH.*\(on Debian: apt-get install qemu-system-x86\)"
    ):
        find_program(_LINUX, machine)


def test_a_debugger_finds_addresses_as_they_were_linked() -> None:
    assert _value(_command(make_manifest(), RunOptions(gdb=True)), "-append") == f"{_STREAMS} norandmaps"
