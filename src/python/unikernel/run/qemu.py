"""Boots an image under QEMU, or by its library OS's own program: the console on standard output, ports forwarded, the application's exit
status as the result.

QEMU never outlives this process: it is a direct child that the kernel kills with its parent (PR_SET_PDEATHSIG, prctl(2)), however that
one ends; signals that ask the runner to stop are passed on to it first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
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
from typing import BinaryIO

from unikernel.elf import is_elf
from unikernel.errors import UnikernelError
from unikernel.image.attachment import ROOTFS_SECTION, read_section
from unikernel.image.manifest import read_manifest
from unikernel.image.manifest_pb2 import Manifest
from unikernel.image.spec import Port
from unikernel.library_os import library_os_of
from unikernel.library_os.command_line import render_command_line
from unikernel.library_os.description import Exit, ExitReport, KvmProbe, LibraryOs, Machine

ACCELERATORS = ("auto", "kvm", "tcg")
_PR_SET_PDEATHSIG = 1
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_MEMORY_STEP = 2**20
# Of Debian.
_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-riscv64": "qemu-system-misc",
    "qemu-system-aarch64": "qemu-system-arm",
}
# Of a line of the console that is looked at.
_LONGEST_LINE = 1 << 16
# A kernel that runs under KVM is up in a tenth of this time.
_PROBE_SECONDS = 5


@dataclass(frozen=True)
class RunOptions:
    """What a run changes of what the image says. `ports` None means the image's own; `memory` is in bytes. `is_verified` tells that the
    image is signed by a key that the user trusts.
    """

    memory: int | None = None
    cpus: int | None = None
    ports: Sequence[Port] | None = None
    accelerator: str = "auto"
    machine: str | None = None
    arguments: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    is_verified: bool = False


def run_image(image: Path, options: RunOptions) -> int:
    """Returns the application's exit status. Raises UnikernelError when the image cannot be booted."""
    manifest = read_manifest(image)
    if manifest.library_os.description and not options.is_verified:
        raise UnikernelError(
            f"{image} brings the description of its library OS along, which says what is run on this machine: name a key that you trust "
            "it with, --key PUB."
        )
    library_os = library_os_of(manifest)
    machine = _machine(library_os, options.machine)
    ports = _ports(manifest) if options.ports is None else list(options.ports)
    if manifest.network.mode == "none":
        ports = []
    program = _program(library_os, machine)
    check_ports(ports, options.host)
    with tempfile.TemporaryDirectory(prefix="unikernel-run-") as scratch, packed_rootfs(image, manifest) as rootfs:
        files = BootFiles(_plainly_named(image, Path(scratch)), rootfs)
        status_file = Path(scratch, "status")
        if not machine.machine:
            argv = tender_command(program, library_os, machine, files, manifest, options)
        else:
            accelerator = choose_accelerator(options.accelerator, program, library_os, machine, files, _memory(manifest, options))
            argv = qemu_command(program, library_os, machine, files, manifest, options, ports, accelerator)
        if library_os.exit.report is ExitReport.IO_PORT:
            argv += [
                *("-chardev", f"file,id=status,path={_comma_doubled(str(status_file))}"),
                *("-device", f"isa-debugcon,iobase={library_os.exit.port:#x},chardev=status"),
            ]
        watch = _ConsoleWatch(library_os.exit)
        ended = _run(argv, rootfs, watch)
        return _exit_status(library_os, ended, status_file, watch)


@dataclass(frozen=True)
class BootFiles:
    """`rootfs` is a descriptor of what is packed in the image, which who boots it opens by its path in /proc."""

    image: Path
    rootfs: int | None = None

    def place(self) -> dict[str, str]:
        """What stands for the placeholders of a machine's arguments."""
        rootfs = {} if self.rootfs is None else {"rootfs": f"/proc/self/fd/{self.rootfs}"}
        return {"image": str(self.image), **rootfs}


def _program(library_os: LibraryOs, machine: Machine) -> str:
    program = shutil.which(machine.program)
    if program is not None:
        return program
    if machine.program in _PACKAGES or machine.machine:
        hint = f"on Debian the package {_PACKAGES.get(machine.program, 'qemu-system')} brings it"
    else:
        hint = f"it is published as: {library_os.published}"
    raise UnikernelError(f"There is no {machine.program} on PATH; {hint}.")


@contextlib.contextmanager
def packed_rootfs(image: Path, manifest: Manifest) -> Iterator[int | None]:
    """A descriptor of a copy in memory: nothing of it stays behind, however the runner ends."""
    if not manifest.rootfs.packed_sha256 or not is_elf(image):
        yield None
        return
    with os.fdopen(os.memfd_create("rootfs"), "w+b") as stream:
        read_section(image, ROOTFS_SECTION, stream)
        stream.flush()
        yield stream.fileno()


def _plainly_named(image: Path, scratch: Path) -> Path:
    """`image` by a path without what QEMU's options and multiboot command lines give a meaning to."""
    path = image.absolute()
    if not set(str(path)) & set(" ,\"'"):
        return path
    link = scratch / f"image{image.suffix}"
    link.symlink_to(path)
    return link


def tender_command(
    program: str, library_os: LibraryOs, machine: Machine, files: BootFiles, manifest: Manifest, options: RunOptions
) -> list[str]:
    """The command line of a program that boots the image without QEMU."""
    place = {
        **files.place(),
        "command_line": _command_line(library_os, manifest, options),
        "memory": str(_mebibytes(manifest, options)),
    }
    return [program, *(word.format(**place) for word in machine.arguments)]


def qemu_command(
    program: str,
    library_os: LibraryOs,
    machine: Machine,
    files: BootFiles,
    manifest: Manifest,
    options: RunOptions,
    ports: Sequence[Port],
    accelerator: str,
) -> list[str]:
    """QEMU's command line, without the channel for the exit status."""
    argv = [program, "-M", machine.machine, "-accel", accelerator, "-cpu", machine.cpu[accelerator]]
    argv += ["-m", _memory(manifest, options), "-smp", str(options.cpus or manifest.cpus or 1)]
    argv += ["-chardev", "stdio,id=console,signal=off"]
    if manifest.network.mode != "none" and machine.network_device:
        argv += ["-netdev", _netdev(manifest, ports, options.host), "-device", f"{machine.network_device},netdev=net0"]
    place = {**files.place(), "command_line": _command_line(library_os, manifest, options)}
    return [*argv, *(word.format(**place) for word in machine.arguments)]


def _command_line(library_os: LibraryOs, manifest: Manifest, options: RunOptions) -> str:
    """What the image does not have in it: further arguments, or all of them."""
    syntax, start = library_os.command_line, manifest.start
    own = [] if syntax.in_image else list(start.arguments[1:])
    variables = {} if syntax.in_image else dict(variable.split("=", 1) for variable in start.environment)
    appended = render_command_line(
        library_os,
        start.program,
        [*own, *options.arguments],
        {**variables, **options.environment},
        manifest.network,
        () if syntax.in_image else manifest.command_line.split(),
    )
    room = syntax.longest - len(manifest.command_line)
    if syntax.longest and len(appended) > room:
        raise UnikernelError(
            f"The arguments and the environment take {len(appended)} bytes of the kernel's command line, which has room for {room}."
        )
    return appended


def _mebibytes(manifest: Manifest, options: RunOptions) -> int:
    return -(-(options.memory or manifest.memory_bytes) // _MEMORY_STEP)


def _memory(manifest: Manifest, options: RunOptions) -> str:
    """As QEMU takes it, in whole MiB."""
    return f"{_mebibytes(manifest, options)}M"


def _machine(library_os: LibraryOs, name: str | None) -> Machine:
    machines = library_os.machines
    if not machines:
        raise UnikernelError(f"Images of {library_os.name} are booted elsewhere: {library_os.elsewhere}.")
    if name is None:
        return next(iter(machines.values()))
    if name not in machines:
        raise UnikernelError(f"{library_os.name} is not booted on a machine {name!r}, only on {', '.join(machines)}.")
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


def choose_accelerator(wanted: str, program: str, library_os: LibraryOs, machine: Machine, files: BootFiles, memory: str) -> str:
    """ "auto" is KVM where it boots this image's kernel, and TCG, with a line that says so, where not: /dev/kvm alone proves nothing."""
    if wanted != "auto":
        if wanted not in machine.cpu:
            raise UnikernelError(
                f"{library_os.name} is not booted with the accelerator {wanted} on this machine, only with {', '.join(machine.cpu)}."
            )
        return wanted
    probe = library_os.kvm_probe
    if "kvm" not in machine.cpu or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    if probe is None:
        print(
            f"unikernel: nothing short of the application proves that KVM runs {library_os.name} here; using QEMU's own emulation (TCG), "
            "which is slower: --accel=kvm takes KVM",
            file=sys.stderr,
        )
        return "tcg"
    if _kvm_boots(program, machine, probe, files, memory):
        return "kvm"
    print("unikernel: /dev/kvm is there but runs no guest; using QEMU's own emulation (TCG), which is slower", file=sys.stderr)
    return "tcg"


def _kvm_boots(program: str, machine: Machine, probe: KvmProbe, files: BootFiles, memory: str) -> bool:
    """Boots the image's kernel as far as its probe says, without its application. A boot sector proves less: there are machines where KVM
    runs one and fails in a kernel ("KVM internal error", and then silence)."""
    command = [program, "-M", machine.machine, "-accel", "kvm", "-cpu", machine.cpu["kvm"], "-m", memory]
    command += ["-chardev", "stdio,id=console,signal=off"]
    command += [word.format(**files.place(), command_line=probe.append) for word in machine.arguments]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
            pass_fds=[] if files.rootfs is None else [files.rootfs],
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
            if probe.sign.encode() in line:
                return True
        return False
    finally:
        timer.cancel()
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class _Ended:
    """How QEMU ended: its own status, and the signal that the runner was asked to stop by."""

    code: int
    stopped_by: int | None


class _ConsoleWatch:
    """Passes the console on, and looks in its lines for what a library OS says of its end."""

    def __init__(self, exit: Exit) -> None:
        self.is_needed = bool(exit.status or exit.failure)
        self.status: int | None = None
        self.failure = ""
        self._status = re.compile(exit.status.encode()) if exit.status else None
        self._failure = re.compile(exit.failure.encode()) if exit.failure else None
        self._line = b""

    def pass_on(self, console: BinaryIO) -> None:
        """Until the console ends."""
        output = sys.stdout.buffer
        while True:
            block = os.read(console.fileno(), 1 << 16)
            if not block:
                break
            output.write(block)
            output.flush()
            *lines, self._line = (self._line + block).split(b"\n")
            for line in lines:
                self._look(line)
            self._line = self._line[-_LONGEST_LINE:]
        self._look(self._line)

    def _look(self, line: bytes) -> None:
        found = self._status.search(line) if self._status else None
        if found is not None:
            self.status = int(found[1]) & 0xFF
        if self._failure is not None and not self.failure and self._failure.search(line):
            self.failure = line.decode(errors="replace").strip()


def _run(argv: Sequence[str], descriptor: int | None, watch: _ConsoleWatch) -> _Ended:
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
            process = subprocess.Popen(
                argv,
                preexec_fn=_die_with_parent,
                pass_fds=[] if descriptor is None else [descriptor],
                stdout=subprocess.PIPE if watch.is_needed else None,
            )
            if asked_to_stop:
                process.terminate()
            if process.stdout is not None:
                with process.stdout as console:
                    watch.pass_on(console)  # type: ignore[arg-type]
            code = process.wait()
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            for signum, handler in previous.items():
                signal.signal(signum, handler)
    return _Ended(code, asked_to_stop[-1] if asked_to_stop else None)


def _exit_status(library_os: LibraryOs, ended: _Ended, status_file: Path, watch: _ConsoleWatch) -> int:
    """The application's exit status. Raises UnikernelError when the machine ended without one."""
    report = library_os.exit.report
    status = status_file.read_bytes() if status_file.exists() else b""
    if status:
        return status[-1]
    if watch.status is not None:
        return watch.status
    if watch.failure:
        raise UnikernelError(f"{library_os.name} failed: {watch.failure}")
    if ended.stopped_by is not None:
        return 128 + ended.stopped_by
    if report is ExitReport.MONITOR:
        return 0 if ended.code in library_os.exit.success else ended.code
    if report is ExitReport.MONITOR_SHIFTED and ended.code & 1:
        return ended.code >> 1
    if ended.code != 0:
        raise UnikernelError(f"The machine ended with status {ended.code} before the application did.")
    if report is ExitReport.NONE:
        return 0
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
