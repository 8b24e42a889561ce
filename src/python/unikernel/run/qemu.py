"""Boots an image under QEMU: the console on standard output, ports forwarded, the application's exit status as the result.

QEMU never outlives this process: it is a direct child that the kernel kills with its parent (PR_SET_PDEATHSIG, prctl(2)), however that
one ends; signals that ask the runner to stop are passed on to it first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from unikernel.errors import UnikernelError
from unikernel.image.manifest import read_manifest
from unikernel.image.manifest_pb2 import Manifest
from unikernel.image.spec import Port
from unikernel.library_os import find_library_os
from unikernel.library_os.description import QemuMachine

ACCELERATORS = ("auto", "kvm", "tcg")
_PR_SET_PDEATHSIG = 1
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_MEMORY_STEP = 2**20
# COMMAND_LINE_SIZE, beyond which Linux drops what is there, less what QEMU appends for its devices.
_LONGEST_COMMAND_LINE = 2048 - 256
# A kernel that runs under KVM is up in a tenth of this time.
_PROBE_SECONDS = 5


@dataclass(frozen=True)
class RunOptions:
    """What a run changes of what the image says. `ports` None means the image's own; `memory` is in bytes."""

    memory: int | None = None
    cpus: int | None = None
    ports: Sequence[Port] | None = None
    accelerator: str = "auto"
    machine: str | None = None
    arguments: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"


def run_image(image: Path, options: RunOptions) -> int:
    """Returns the application's exit status. Raises UnikernelError when the image cannot be booted."""
    manifest = read_manifest(image)
    library_os = find_library_os(manifest.library_os.name)
    machine = _machine(library_os.machines, options.machine)
    ports = _ports(manifest) if options.ports is None else list(options.ports)
    if manifest.network.mode == "none":
        ports = []
    program = shutil.which(machine.program)
    if program is None:
        raise UnikernelError(f"There is no {machine.program} on PATH; on Debian the package qemu-system-x86 brings it.")
    check_ports(ports, options.host)
    memory = _memory(manifest, options)
    accelerator = choose_accelerator(options.accelerator, program, machine, image, memory)
    with tempfile.TemporaryDirectory(prefix="unikernel-run-") as scratch:
        status_file = Path(scratch, "status")
        argv = qemu_command(program, machine, image, manifest, options, ports, accelerator)
        argv += [
            "-chardev",
            f"file,id=status,path={_comma_doubled(str(status_file))}",
            "-device",
            f"isa-debugcon,iobase={library_os.exit_status.status_port:#x},chardev=status",
        ]
        return _run(argv, status_file)


def qemu_command(
    program: str,
    machine: QemuMachine,
    image: Path,
    manifest: Manifest,
    options: RunOptions,
    ports: Sequence[Port],
    accelerator: str,
) -> list[str]:
    """QEMU's command line, without the channel for the exit status."""
    argv = [program, "-M", machine.machine, "-accel", accelerator, "-cpu", machine.cpu[accelerator]]
    argv += ["-m", _memory(manifest, options), "-smp", str(options.cpus or manifest.cpus or 1), *machine.arguments]
    argv += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-kernel", str(image)]
    if manifest.network.mode != "none":
        argv += ["-netdev", _netdev(manifest, ports, options.host), "-device", f"{machine.network_device},netdev=net0"]
    appended = _command_line(options.arguments, options.environment)
    room = _LONGEST_COMMAND_LINE - len(manifest.command_line)
    if len(appended) > room:
        raise UnikernelError(
            f"The arguments and the environment take {len(appended)} bytes of the kernel's command line, which has room for {room}."
        )
    if appended:
        argv += ["-append", appended]
    return argv


def _memory(manifest: Manifest, options: RunOptions) -> str:
    """As QEMU takes it, in whole MiB."""
    return f"{-(-(options.memory or manifest.memory_bytes) // _MEMORY_STEP)}M"


def _machine(machines: dict[str, QemuMachine], name: str | None) -> QemuMachine:
    if name is None:
        return next(iter(machines.values()))
    if name not in machines:
        raise UnikernelError(f"This library OS is not booted on a machine {name!r}, only on {', '.join(machines)}.")
    return machines[name]


def _ports(manifest: Manifest) -> list[Port]:
    return [Port(port.guest_port, port.host_port, port.protocol) for port in manifest.ports]


def _netdev(manifest: Manifest, ports: Sequence[Port], host: str) -> str:
    """QEMU's user-mode network; for an image with a static address, laid around that address."""
    words = ["user", "id=net0"]
    guest = ""
    if manifest.network.mode == "static":
        guest = manifest.network.address.split("/")[0]
        words += [f"net={manifest.network.address}"]
        if manifest.network.gateway:
            words += [f"host={manifest.network.gateway}"]
    words += [f"hostfwd={port.protocol}:{host}:{port.host_port}-{guest}:{port.guest_port}" for port in ports]
    return ",".join(words)


def _command_line(arguments: Sequence[str], environment: dict[str, str]) -> str:
    """Kernel parameters that PID 1 takes for the application. Percent-encoded: the kernel splits at spaces and knows few escapes."""
    words = []
    if environment:
        words.append("UNIKERNEL_ENV=" + ",".join(quote(f"{key}={value}", safe="") for key, value in environment.items()))
    if arguments:
        words.append("UNIKERNEL_ARGS=" + ",".join(quote(argument, safe="") or "%00" for argument in arguments))
    return " ".join(words)


def _comma_doubled(text: str) -> str:
    return text.replace(",", ",,")


def check_ports(ports: Sequence[Port], host: str) -> None:
    """Raises UnikernelError for a host port that something else already listens on."""
    seen = set()
    for port in ports:
        if (port.protocol, port.host_port) in seen:
            raise UnikernelError(f"Port {port.host_port}/{port.protocol} of {host} is to be forwarded twice.")
        seen.add((port.protocol, port.host_port))
        kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port.host_port))
            except OSError as error:
                raise UnikernelError(
                    f"Port {port.host_port}/{port.protocol} of {host} cannot be forwarded: {error.strerror}. Choose another, as in "
                    f"-p {port.host_port + 10000 if port.host_port < 50000 else 18080}:{port.guest_port}."
                ) from error


def choose_accelerator(wanted: str, program: str, machine: QemuMachine, image: Path, memory: str) -> str:
    """ "auto" is KVM where it boots this image's kernel, and TCG, with a line that says so, where not: /dev/kvm alone proves nothing."""
    if wanted != "auto":
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    if _kvm_boots(program, machine, image, memory):
        return "kvm"
    print("unikernel: /dev/kvm is there but runs no guest; using QEMU's own emulation (TCG), which is slower", file=sys.stderr)
    return "tcg"


def _kvm_boots(program: str, machine: QemuMachine, image: Path, memory: str) -> bool:
    """Boots the image's kernel without an init, and sees whether it gets as far as to panic about that. A boot sector proves less:
    there are machines where KVM runs one and fails in a kernel ("KVM internal error", and then silence)."""
    command = [program, "-M", machine.machine, "-accel", "kvm", "-cpu", machine.cpu["kvm"], "-m", memory, *machine.arguments]
    command += ["-serial", "stdio", "-kernel", str(image), "-append", "rdinit=/nonexistent"]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
        )
    except OSError:
        return False
    # QEMU stays when KVM gives up; so the end of waiting is its own.
    timer = threading.Timer(_PROBE_SECONDS, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if b"KVM internal error" in line:
                return False
            if b"Kernel panic" in line:
                return True
        return False
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(argv: Sequence[str], status_file: Path) -> int:
    with _terminal_restored():
        process: subprocess.Popen[bytes] | None = None
        asked_to_stop: list[int] = []

        def stop(signum: int, frame: object) -> None:
            asked_to_stop.append(signum)
            if process is not None:
                process.terminate()

        # Before QEMU is there: a signal must not end the runner in between.
        previous = {signum: signal.signal(signum, stop) for signum in _STOPPING}
        try:
            process = subprocess.Popen(argv, preexec_fn=_die_with_parent)
            if asked_to_stop:
                process.terminate()
            code = process.wait()
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            for signum, handler in previous.items():
                signal.signal(signum, handler)
    status = status_file.read_bytes() if status_file.exists() else b""
    if status:
        return status[-1]
    if asked_to_stop:
        return 128 + asked_to_stop[-1]
    if code != 0:
        raise UnikernelError(f"QEMU ended with status {code} before the application did.")
    raise UnikernelError("The machine stopped before the application ended and said how (see the console above).")


@contextlib.contextmanager
def _terminal_restored() -> Iterator[None]:
    """QEMU puts the terminal into raw mode; when it is killed it cannot put it back."""
    try:
        import termios

        attributes = termios.tcgetattr(0)
    except Exception:  # no terminal
        yield
        return
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, attributes)
