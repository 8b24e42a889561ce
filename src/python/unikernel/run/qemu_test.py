from __future__ import annotations

import importlib.resources
import re
import socket
from pathlib import Path
from urllib.parse import unquote

import pytest

from unikernel.errors import UnikernelError
from unikernel.image import manifest as image_manifest
from unikernel.image.attachment import ROOTFS_SECTION, Section, append_sections, append_trailer, manifest_section
from unikernel.image.manifest_pb2 import LibraryOs, Manifest, Network, Rootfs, Start
from unikernel.image.manifest_pb2 import Port as ManifestPort
from unikernel.image.spec import Port
from unikernel.library_os import find_library_os
from unikernel.run.qemu import BootFiles, RunOptions, check_ports, choose_accelerator, qemu_command, run_image
from unikernel.testing.images import image_with_note
from unikernel.testing.programs import tiny_program

_LINUX = find_library_os("linux")
_NO_OPTIONS = RunOptions()


def _manifest(**changes: object) -> Manifest:
    settings = {
        "name": "a",
        "memory_bytes": 64 << 20,
        "cpus": 1,
        "network": Network(mode="dhcp"),
        "command_line": "quiet",
        **changes,
    }
    return Manifest(**settings)  # type: ignore[arg-type]


def _command(
    manifest: Manifest, options: RunOptions = _NO_OPTIONS, ports: tuple[Port, ...] = (), machine: str = "microvm"
) -> list[str]:
    return qemu_command("qemu", _LINUX, _LINUX.machines[machine], BootFiles(Path("image.elf")), manifest, options, ports, "tcg")


def _value(command: list[str], option: str) -> str:
    assert command.count(option) == 1
    return command[command.index(option) + 1]


MICROVM = _LINUX.machines["microvm"]


def test_an_image_is_booted_as_it_says() -> None:
    command = _command(_manifest(memory_bytes=(64 << 20) + 1, cpus=2))
    assert command[0] == "qemu"
    assert _value(command, "-kernel") == "image.elf"
    assert _value(command, "-M") == "microvm,acpi=off"
    assert (_value(command, "-accel"), _value(command, "-cpu")) == ("tcg", "max")
    assert (_value(command, "-m"), _value(command, "-smp")) == ("65M", "2")
    assert _value(command, "-netdev") == "user,id=net0"
    assert _value(command, "-device") == "virtio-net-device,netdev=net0"
    assert _value(command, "-append") == ""


def test_options_take_precedence_over_the_image() -> None:
    command = _command(_manifest(), RunOptions(memory=256 << 20, cpus=4), machine="q35")
    assert (_value(command, "-m"), _value(command, "-smp")) == ("256M", "4")
    assert _value(command, "-device") == "virtio-net-pci,netdev=net0"


def test_an_image_without_a_network_gets_no_card() -> None:
    command = _command(_manifest(network=Network(mode="none")))
    assert "-netdev" not in command
    assert "-device" not in command


def test_ports_are_forwarded() -> None:
    command = _command(_manifest(), RunOptions(host="0.0.0.0"), (Port(80, 8080), Port(53, 5353, "udp")))
    assert _value(command, "-netdev") == "user,id=net0,hostfwd=tcp:0.0.0.0:8080-:80,hostfwd=udp:0.0.0.0:5353-:53"


def test_the_network_is_laid_around_a_static_address() -> None:
    network = Network(mode="static", address="192.168.7.20/24", gateway="192.168.7.1")
    command = _command(_manifest(network=network), ports=(Port(80, 8080),))
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
    assert _value(_command(_manifest(), RunOptions(arguments=arguments, environment=environment)), "-append") == appended


def test_every_character_survives_the_encoding() -> None:
    argument = "".join(map(chr, range(1, 300)))
    appended = _value(_command(_manifest(), RunOptions(arguments=[argument])), "-append")
    assert unquote(appended.partition("=")[2]) == argument
    assert set(appended) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~%=")


def test_what_the_kernel_would_cut_off_is_refused() -> None:
    manifest = _manifest(command_line="x" * 100)
    _command(manifest, RunOptions(arguments=["y" * 1600]))
    with pytest.raises(UnikernelError, match="take 2015 bytes of the kernel's command line, which has room for 1692"):
        _command(manifest, RunOptions(arguments=["y" * 2000]))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_in_use_is_named_with_another_to_take(kind: socket.SocketKind) -> None:
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        number = listener.getsockname()[1]
        with pytest.raises(UnikernelError, match=rf"Port {number}/{protocol} of 127\.0\.0\.1 cannot be forwarded.*-p \d+:80"):
            check_ports([Port(80, number, protocol)], "127.0.0.1")
        # The other protocol's ports are others.
        check_ports([Port(80, number, "udp" if protocol == "tcp" else "tcp")], "127.0.0.1")
    check_ports([Port(80, number, protocol)], "127.0.0.1")


def test_a_port_cannot_be_forwarded_twice() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
    check_ports([Port(80, number), Port(80, number, "udp")], "127.0.0.1")
    with pytest.raises(UnikernelError, match=f"Port {number}/tcp of 127.0.0.1 is to be forwarded twice"):
        check_ports([Port(80, number), Port(81, number)], "127.0.0.1")


def test_an_accelerator_that_is_asked_for_is_not_questioned() -> None:
    assert choose_accelerator("tcg", "/none/qemu", _LINUX, MICROVM, BootFiles(Path("/none/image")), "64M") == "tcg"
    assert choose_accelerator("kvm", "/none/qemu", _LINUX, MICROVM, BootFiles(Path("/none/image")), "64M") == "kvm"


def test_without_a_qemu_that_runs_a_guest_under_kvm_its_own_emulation_is_taken() -> None:
    assert choose_accelerator("auto", "/none/qemu", _LINUX, MICROVM, BootFiles(Path("/none/image")), "64M") == "tcg"


def _image(tmp_path: Path, **changes: object) -> Path:
    manifest = _manifest(library_os=LibraryOs(name="linux"), **changes)
    return image_with_note(tmp_path / "image", image_manifest.encode(manifest))


def _fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A QEMU that is a shell script; `$status` is the file in which the guest's exit status is expected."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "qemu-system-x86_64"
    find = "for word; do case $word in file,id=status,path=*) status=${word#file,id=status,path=};; esac; done\n"
    program.write_text(f"#!/bin/sh\n{find}{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_result_is_the_status_that_the_guest_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    # Whatever QEMU's own is. The last byte counts.
    _fake_qemu(tmp_path, monkeypatch, f"printf 'x\\{status:03o}' > $status; exit 1")
    assert run_image(_image(tmp_path), RunOptions(accelerator="tcg")) == status


def test_a_machine_that_ends_without_a_status_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_qemu(tmp_path, monkeypatch, "exit $(cat $0.code)")
    image = _image(tmp_path)
    code = tmp_path / "bin/qemu-system-x86_64.code"
    code.write_text("3")
    with pytest.raises(UnikernelError, match="The machine ended with status 3 before the application did"):
        run_image(image, RunOptions(accelerator="tcg"))
    code.write_text("0")
    with pytest.raises(UnikernelError, match="stopped before the application ended"):
        run_image(image, RunOptions(accelerator="tcg"))


def test_a_signal_that_stops_the_runner_stops_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a child, because a shell acts on a signal only when its current command has ended.
    _fake_qemu(tmp_path, monkeypatch, "trap 'kill $!; exit 0' TERM; sleep 600 & kill -TERM $PPID; wait")
    assert run_image(_image(tmp_path), RunOptions(accelerator="tcg")) == 128 + 15


def test_what_cannot_be_booted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = _image(tmp_path)
    with pytest.raises(UnikernelError, match="linux is not booted on a machine 'pc', only on microvm, q35"):
        run_image(image, RunOptions(machine="pc"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnikernelError, match="no qemu-system-x86_64 on PATH"):
        run_image(image, RunOptions())


def test_the_images_ports_are_checked_unless_others_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_qemu(tmp_path, monkeypatch, "printf '\\0' > $status")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = ManifestPort(guest_port=80, host_port=listener.getsockname()[1], protocol="tcp")
        image = _image(tmp_path, ports=[taken])
        with pytest.raises(UnikernelError, match="cannot be forwarded"):
            run_image(image, RunOptions(accelerator="tcg"))
        assert run_image(image, RunOptions(accelerator="tcg", ports=())) == 0


def test_an_image_says_what_is_run_on_this_machine_only_if_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_qemu(tmp_path, monkeypatch, "exit 7")
    text = importlib.resources.files("unikernel.library_os").joinpath("linux.yaml").read_text()
    text = text.replace("report: io-port\n  port: 1282", "report: monitor").replace("name: linux", "name: mine")
    manifest = _manifest(library_os=LibraryOs(name="mine", description=text))
    image = image_with_note(tmp_path / "image", image_manifest.encode(manifest))
    with pytest.raises(UnikernelError, match="brings the description of its library OS along.*name a key"):
        run_image(image, RunOptions(accelerator="tcg"))
    assert run_image(image, RunOptions(accelerator="tcg", is_verified=True)) == 7


# --- other library OSes ---------------------------------------------------------------------------------------------


def _packed_image(tmp_path: Path, rootfs: bytes) -> Path:
    manifest = _manifest(
        library_os=LibraryOs(name="unikraft"),
        rootfs=Rootfs(packed_sha256="ab", packed_size=len(rootfs)),
        start=Start(program="/app/a", arguments=["/app/a", "two words"], environment=["A=1"]),
        network=Network(mode="static", address="10.0.2.15/24", gateway="10.0.2.2", hostname="web", nameservers=["10.0.2.3"]),
        command_line="lib.x=1",
    )
    content = tmp_path / "rootfs"
    content.write_bytes(rootfs)
    image = tmp_path / "an image, packed.elf"
    note = image_manifest.note(image_manifest.encode(manifest))
    sections = [Section(ROOTFS_SECTION, "SHT_PROGBITS", content, 4096), manifest_section(note)]
    append_sections(tiny_program(tmp_path / "kernel"), sections, image)
    return image


def test_what_is_packed_beside_a_kernel_is_given_at_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = (
        'previous=; for word; do case $previous in -initrd) cat $word;; -kernel) echo "kernel $word" >&2; test -f $word;; '
        '-append) echo "$word" >&2;; esac; previous=$word; done; ls "$TMPDIR" >&2'
    )
    _fake_qemu(tmp_path, monkeypatch, script)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert run_image(_packed_image(tmp_path, b"packed\n" * 1000), RunOptions(accelerator="tcg", arguments=["7"])) == 0
    printed = capfd.readouterr()
    assert printed.out == "packed\n" * 1000
    appended = 'netdev.ip=10.0.2.15/24:10.0.2.2:10.0.2.3::web: env.vars=[ "A=1" ] lib.x=1 -- /app/a "two words" "7"'
    assert appended in printed.err
    # QEMU would take the comma for the end of the name, and the kernel the space.
    assert re.search(r"^kernel \S+/image\.elf$", printed.err, re.MULTILINE)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("console", "code", "status"),
    [("Solo5: solo5_exit(7) called\\r", 83, 7), ("x\\nSolo5: solo5_exit(0) called", 83, 0), ("solo5_exit(300) called", 83, None)],
)
def test_a_status_on_the_console(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    console: str,
    code: int,
    status: int | None,
) -> None:
    _fake_qemu(tmp_path, monkeypatch, f"printf '{console}'; exit {code}")
    manifest = _manifest(library_os=LibraryOs(name="solo5-virtio"), network=Network(mode="none"))
    image = image_with_note(tmp_path / "image", image_manifest.encode(manifest))
    if status is None:
        with pytest.raises(UnikernelError, match="ended with status 83 before the application did"):
            run_image(image, RunOptions(accelerator="tcg"))
    else:
        assert run_image(image, RunOptions(accelerator="tcg")) == status
    assert "solo5_exit" in capfd.readouterr().out


def test_a_library_os_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # QEMU's own status is 0.
    _fake_qemu(tmp_path, monkeypatch, "echo 'ERR:  [appelfloader] nope: Failed to execute /nope'")
    with pytest.raises(UnikernelError, match="unikraft failed: ERR: .* Failed to execute /nope"):
        run_image(_packed_image(tmp_path, b""), RunOptions(accelerator="tcg"))


@pytest.mark.parametrize(("code", "status"), [(1, 0), (15, 7), (255, 127)])
def test_a_status_that_isa_debug_exit_shifts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, status: int) -> None:
    _fake_qemu(tmp_path, monkeypatch, f"exit {code}")
    disk = tmp_path / "disk"
    disk.write_bytes(b"disk")
    manifest = _manifest(library_os=LibraryOs(name="nanos"), network=Network(mode="none"))
    append_trailer(disk, image_manifest.note(image_manifest.encode(manifest)), tmp_path / "image.img")
    assert run_image(tmp_path / "image.img", RunOptions(accelerator="tcg")) == status
    with pytest.raises(UnikernelError, match="nanos has no place for arguments at boot"):
        run_image(tmp_path / "image.img", RunOptions(accelerator="tcg", arguments=["7"]))


def test_a_program_of_the_library_os_boots_without_qemu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = _manifest(
        library_os=LibraryOs(name="solo5"),
        network=Network(mode="none"),
        memory_bytes=2 << 20,
        start=Start(program="a", arguments=["a", "7"]),
    )
    image = image_with_note(tmp_path / "image", image_manifest.encode(manifest))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(UnikernelError, match="There is no solo5-spt on PATH; it is published as: Solo5's releases"):
        run_image(image, RunOptions())
    tender = tmp_path / "solo5-spt"
    tender.write_text('#!/bin/sh\nprintf "%s|" "$@"; exit 9\n')
    tender.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run_image(image, RunOptions(arguments=["more"])) == 9
    assert capfd.readouterr().out == f"--mem=2|{image}|7 more|"


def test_kvm_is_taken_unasked_only_where_something_proves_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nanos = find_library_os("nanos")
    monkeypatch.setattr("os.access", lambda path, mode: True)
    files = BootFiles(Path("/none/image"))
    assert choose_accelerator("auto", "/none/qemu", nanos, nanos.machines["q35"], files, "64M") == "tcg"
    assert "nothing short of the application proves that KVM runs nanos here" in capsys.readouterr().err
    assert choose_accelerator("kvm", "/none/qemu", nanos, nanos.machines["q35"], files, "64M") == "kvm"
