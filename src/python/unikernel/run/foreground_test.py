from __future__ import annotations

import importlib.resources
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.image import manifest as image_manifest
from unikernel.image.attachment import ROOTFS_SECTION, Section, append_sections, append_trailer, manifest_section
from unikernel.image.manifest_pb2 import LibraryOs, Network, Rootfs, Start
from unikernel.image.manifest_pb2 import Port as ManifestPort
from unikernel.run.foreground import run_image
from unikernel.run.machine import Ended, Machine
from unikernel.run.options import RunOptions
from unikernel.testing.images import image_with_note
from unikernel.testing.manifests import make_manifest
from unikernel.testing.programs import tiny_program
from unikernel.testing.signals import default_signals


@pytest.fixture(autouse=True)
def _default_signals() -> Iterator[None]:
    with default_signals():
        yield


def _image(tmp_path: Path, **changes: object) -> Path:
    manifest = make_manifest(library_os=LibraryOs(name="linux"), **changes)
    return image_with_note(tmp_path / "image", image_manifest.encode(manifest))


def _fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A QEMU that is a script: what it prints is on the guest's console, and `$status` is where the guest's exit status goes."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "qemu-system-x86_64"
    find = (
        "for word; do case $word in socket,id=status,fd=*) status=${word##*=};; socket,id=console,fd=*) exec <&${word##*=} >&${word##*=};; "
        "esac; done\n"
    )
    program.write_text(f"#!/bin/bash\n{find}{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    # It does not answer when it is asked to end.
    monkeypatch.setattr("unikernel.run.machine._END_SECONDS", 0.2)


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_result_is_the_status_that_the_guest_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    # Whatever QEMU's own is. The last byte counts.
    _fake_qemu(tmp_path, monkeypatch, f"printf 'x\\{status:03o}' >&$status; exit 1")
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


def _when_started(marker: Path, action: object) -> None:
    """Has `action` called when the fake QEMU has made `marker`."""

    def watch() -> None:
        while not marker.exists():
            threading.Event().wait(0.01)
        action()  # type: ignore[operator]

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_stops_the_runner_stops_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    _fake_qemu(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/started; exec sleep 600")
    _when_started(tmp_path / "started", lambda: os.kill(os.getpid(), number))
    assert run_image(_image(tmp_path), RunOptions(accelerator="tcg")) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "started").read_text()), 0)


def test_a_signal_that_the_runner_was_started_to_ignore_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_qemu(tmp_path, monkeypatch, f"touch {tmp_path}/started; read -rN1 typed; printf '\\x7' >&$status; exit 0")

    def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        # Longer than the machine would have to end.
        threading.Event().wait(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _when_started(tmp_path / "started", hang_up)
    assert run_image(_image(tmp_path), RunOptions(accelerator="tcg")) == 7
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_an_interrupt_is_passed_on_to_an_application_that_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"touch {tmp_path}/started; read -rN1 typed; [ \"$typed\" = $'\\003' ] && printf '\\x7' >&$status; exit 0"
    _fake_qemu(tmp_path, monkeypatch, script)
    _when_started(tmp_path / "started", lambda: os.kill(os.getpid(), signal.SIGINT))
    assert run_image(_image(tmp_path), RunOptions(accelerator="tcg")) == 7


def test_three_interrupts_stop_the_machine_of_one_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_qemu(tmp_path, monkeypatch, f"touch {tmp_path}/started; exec sleep 600")

    def interrupt() -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.2)

    _when_started(tmp_path / "started", interrupt)
    assert run_image(_image(tmp_path), RunOptions(accelerator="tcg")) == 128 + signal.SIGINT


def test_what_cannot_be_booted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = _image(tmp_path)
    with pytest.raises(UnikernelError, match="linux is not booted on a machine 'pc', only on microvm, q35"):
        run_image(image, RunOptions(machine="pc"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnikernelError, match="no qemu-system-x86_64 on PATH"):
        run_image(image, RunOptions())


def test_the_images_ports_are_checked_unless_others_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_qemu(tmp_path, monkeypatch, "printf '\\0' >&$status")
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
    manifest = make_manifest(library_os=LibraryOs(name="mine", description=text))
    image = image_with_note(tmp_path / "image", image_manifest.encode(manifest))
    with pytest.raises(UnikernelError, match="brings the description of its library OS along.*name a key"):
        run_image(image, RunOptions(accelerator="tcg"))
    assert run_image(image, RunOptions(accelerator="tcg", is_verified=True)) == 7


# --- other library OSes ---------------------------------------------------------------------------------------------


def _packed_image(tmp_path: Path, rootfs: bytes) -> Path:
    manifest = make_manifest(
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
        'previous=; for word; do case $previous in -initrd) cat $word;; -kernel) echo "kernel $word"; test -f $word;; '
        '-append) echo "$word";; esac; previous=$word; done'
    )
    _fake_qemu(tmp_path, monkeypatch, script)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert run_image(_packed_image(tmp_path, b"packed\n" * 1000), RunOptions(accelerator="tcg", arguments=["7"])) == 0
    printed = capfd.readouterr().out
    assert printed.count("packed\n") == 1000
    appended = 'netdev.ip=10.0.2.15/24:10.0.2.2:10.0.2.3::web: env.vars=[ "A=1" ] lib.x=1 -- /app/a "two words" "7"'
    assert appended in printed
    # QEMU would take the comma for the end of the name, and the kernel the space.
    assert re.search(r"^kernel /proc/self/fd/\d+$", printed, re.MULTILINE)
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
    manifest = make_manifest(library_os=LibraryOs(name="solo5-virtio"), network=Network(mode="none"))
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
    manifest = make_manifest(library_os=LibraryOs(name="nanos"), network=Network(mode="none"))
    append_trailer(disk, image_manifest.note(image_manifest.encode(manifest)), tmp_path / "image.img")
    assert run_image(tmp_path / "image.img", RunOptions(accelerator="tcg")) == status
    with pytest.raises(UnikernelError, match="nanos has no place for arguments at boot"):
        run_image(tmp_path / "image.img", RunOptions(accelerator="tcg", arguments=["7"]))


def test_a_program_of_the_library_os_boots_without_qemu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = make_manifest(
        library_os=LibraryOs(name="solo5"),
        network=Network(mode="none"),
        memory_bytes=2 << 20,
        start=Start(program="a", arguments=["a", "7"]),
    )
    image = image_with_note(tmp_path / "image", image_manifest.encode(manifest))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(UnikernelError, match="There is no solo5-spt on PATH, which boots this image. Get it from Solo5's releases"):
        run_image(image, RunOptions())
    tender = tmp_path / "solo5-spt"
    tender.write_text('#!/bin/sh\nprintf "%s|" "$@"; exit 9\n')
    tender.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert run_image(image, RunOptions(arguments=["more"])) == 9
    assert capfd.readouterr().out == f"--mem=2|{image}|7 more|"


def test_a_machine_ends_when_nobody_reads_what_it_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, stream: str, data: bytes) -> None:
            raise BrokenPipeError

    _fake_qemu(tmp_path, monkeypatch, "exec yes")
    with Machine(_image(tmp_path), RunOptions(accelerator="tcg"), Closed()) as machine:
        ended = machine.wait(60)
    assert ended == Ended(None, "The machine cannot go on: nobody reads what it prints any more.")


def test_lines_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    _fake_qemu(tmp_path, monkeypatch, "printf 'one\\r\\ntwo \\377'; printf '\\0' >&$status")
    image = _image(tmp_path)
    assert run_image(image, RunOptions(accelerator="tcg"), "json") == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["message"] for line in lines] == ["one", "two \ufffd"]
    assert {(line["stream"], line["image"]) for line in lines} == {("console", f"sha256:{file_sha256(image)}")}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"]) for line in lines)
