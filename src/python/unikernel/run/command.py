"""The command line of what boots an image: QEMU, or its library OS's own program."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unikernel.elf import is_elf
from unikernel.errors import UnikernelError
from unikernel.image.attachment import ROOTFS_SECTION, read_section
from unikernel.image.limits import MemoryNeeds
from unikernel.image.manifest_pb2 import Manifest
from unikernel.image.spec import Port, format_size
from unikernel.library_os.command_line import render_command_line
from unikernel.library_os.description import LibraryOs, Machine
from unikernel.run.options import RunOptions

_MEMORY_STEP = 2**20
# Of Debian.
_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-riscv64": "qemu-system-misc",
    "qemu-system-aarch64": "qemu-system-arm",
}


@dataclass(frozen=True)
class BootFiles:
    """`rootfs` is what is packed in the image, if something is. Who boots it opens `descriptors` by their paths in /proc."""

    image: str
    rootfs: str = ""
    descriptors: tuple[int, ...] = ()

    def place(self) -> dict[str, str]:
        """What stands for the placeholders of a machine's arguments."""
        return {"image": self.image, **({"rootfs": self.rootfs} if self.rootfs else {})}


@contextlib.contextmanager
def boot_files(image: Path, manifest: Manifest) -> Iterator[BootFiles]:
    """Nothing of it is in a file system, so that nothing stays behind, however the runner ends."""
    with contextlib.ExitStack() as stack:
        path = str(image.absolute())
        rootfs = ""
        descriptors = []
        # What QEMU's options and multiboot command lines give a meaning to.
        if set(path) & set(" ,\"'"):
            descriptors.append(stack.enter_context(image.open("rb")).fileno())
            path = _path(descriptors[-1])
        if manifest.rootfs.packed_sha256 and is_elf(image):
            stream = stack.enter_context(os.fdopen(os.memfd_create("rootfs"), "w+b"))
            read_section(image, ROOTFS_SECTION, stream)
            stream.flush()
            descriptors.append(stream.fileno())
            rootfs = _path(descriptors[-1])
        yield BootFiles(path, rootfs, tuple(descriptors))


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def choose_machine(library_os: LibraryOs, name: str | None) -> Machine:
    machines = library_os.machines
    if not machines:
        raise UnikernelError(f"Images of {library_os.name} are booted elsewhere: {library_os.elsewhere}.")
    if name is None:
        return next(iter(machines.values()))
    if name not in machines:
        raise UnikernelError(f"{library_os.name} is not booted on a machine {name!r}, only on {', '.join(machines)}.")
    return machines[name]


def find_program(library_os: LibraryOs, machine: Machine, wanted: str | None = None) -> str:
    """The path of what boots the image. `wanted` is a path or a name, in place of the machine's own."""
    program = shutil.which(wanted or machine.program)
    if program is not None:
        return program
    if wanted:
        raise UnikernelError(f"There is no program {wanted} to boot the image with.")
    if machine.program in _PACKAGES or machine.machine:
        fix = f"Install it (on Debian: apt-get install {_PACKAGES.get(machine.program, 'qemu-system')})"
    else:
        fix = f"Get it from {library_os.published}, put it on PATH"
    raise UnikernelError(f"There is no {machine.program} on PATH, which boots this image. {fix}, then run this again.")


def check_memory(library_os: LibraryOs, manifest: Manifest, options: RunOptions) -> None:
    """Raises UnikernelError for what the image cannot boot with; what its application takes on top is not known."""
    needed = MemoryNeeds.of_library_os(library_os).of(manifest.rootfs.size, 0)
    if options.memory is not None and options.memory < needed:
        raise UnikernelError(
            f"{format_size(options.memory)} of memory are too little: {manifest.name} needs at least {format_size(needed)} to boot, and what "
            f"its application takes on top. It declares {format_size(manifest.memory_bytes)}."
        )


def tender_command(
    program: str, library_os: LibraryOs, machine: Machine, files: BootFiles, manifest: Manifest, options: RunOptions
) -> list[str]:
    """The command line of a program that boots the image without QEMU."""
    place = {
        **files.place(),
        "command_line": _command_line(library_os, machine, manifest, options),
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
    """QEMU's command line, without its character devices: "console", and one for each of `streams_of` the machine."""
    argv = [program, "-M", machine.machine, "-accel", accelerator, "-cpu", machine.cpu[accelerator]]
    argv += ["-m", memory_of(manifest, options), "-smp", str(options.cpus or manifest.cpus or 1)]
    if manifest.network.mode != "none" and machine.network_device:
        argv += ["-netdev", _netdev(manifest, ports, options.host), "-device", f"{machine.network_device},netdev=net0"]
    streams = streams_of(library_os, machine)
    if streams:
        argv += ["-device", machine.stream_controller]
        for number, stream in enumerate(streams):
            argv += ["-device", f"virtconsole,chardev={stream},nr={number}"]
    place = {**files.place(), "command_line": _command_line(library_os, machine, manifest, options)}
    return [*argv, *(word.format(**place) for word in machine.arguments)]


def streams_of(library_os: LibraryOs, machine: Machine) -> list[str]:
    """The names of what arrives beside the console, in the order of the guest's virtio consoles."""
    return list(library_os.streams) if machine.stream_controller else []


def _command_line(library_os: LibraryOs, machine: Machine, manifest: Manifest, options: RunOptions) -> str:
    """What the image does not have in it: further arguments, or all of them, and what is for this run."""
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
    words = [library_os.streams[stream] for stream in streams_of(library_os, machine)]
    if options.gdb:
        words.append(library_os.debug.parameters)
    # The application's may end with what takes all that follows.
    appended = " ".join(word for word in [*words, appended] if word)
    room = syntax.longest - len(manifest.command_line)
    if syntax.longest and len(appended) > room:
        raise UnikernelError(
            f"The arguments and the environment take {len(appended)} bytes of the kernel's command line, which has room for {room}."
        )
    return appended


def _mebibytes(manifest: Manifest, options: RunOptions) -> int:
    return -(-(options.memory or manifest.memory_bytes) // _MEMORY_STEP)


def memory_of(manifest: Manifest, options: RunOptions) -> str:
    """As QEMU takes it, in whole MiB."""
    return f"{_mebibytes(manifest, options)}M"


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
