"""The shape of a library OS's description."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QemuMachine:
    """A QEMU machine that boots the image. `network_device` takes a `netdev=` property, `acceleration` picks CPUs: accelerator -> CPU."""

    program: str
    machine: str
    cpu: dict[str, str]
    arguments: tuple[str, ...]
    network_device: str


@dataclass(frozen=True)
class ExitStatus:
    """How the guest reports the application's exit status: it writes the byte to an I/O port that QEMU copies to a file."""

    status_port: int


@dataclass(frozen=True)
class LibraryOs:
    """`title` is for people. `machines` are the QEMU machines by name, the default first."""

    name: str
    title: str
    licence: str
    machines: dict[str, QemuMachine]
    exit_status: ExitStatus
