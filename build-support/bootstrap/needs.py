"""What a build needs of the machine, as data: a program or a file, and the Debian package that has it."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """A program on PATH or a file (a glob), either of which the first available of `packages` brings.

    Debian's names, most preferred first.
    """

    packages: tuple[str, ...]
    program: str = ""
    file: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the machine has it."""
        if self.program:
            return shutil.which(self.program) is not None
        return any(map(os.path.exists, glob.iglob(self.file)))


def _programs(**packages: str) -> tuple[Need, ...]:
    return tuple(Need((package,), program=program) for program, package in packages.items())


# The series that the base configuration is tested with first.
KERNEL_SOURCE = Need(("linux-source-6.1", "linux-source-6.12", "linux-source"), file="/usr/src/linux-source-*.tar.xz")

PACKAGE = (
    *_programs(gcc="gcc", make="make", ld="binutils", git="git", tar="tar", xz="xz-utils"),
    *_programs(flex="flex", bison="bison", bc="bc"),
    Need(("g++",), program="g++"),
    Need(("musl-tools",), program="musl-gcc"),
    Need(("libc6-dev",), file="/usr/include/stdio.h"),
    Need(("libelf-dev",), file="/usr/include/gelf.h"),
    KERNEL_SOURCE,
)

TESTS = (
    *PACKAGE,
    Need(("qemu-system-x86",), program="qemu-system-x86_64"),
    # From Debian 13 on, RISC-V is a package of its own.
    Need(("qemu-system-riscv", "qemu-system-misc"), program="qemu-system-riscv64"),
    Need(("gdb",), program="gdb"),
    Need(("gcc-riscv64-unknown-elf",), program="riscv64-unknown-elf-gcc"),
    Need(
        ("picolibc-riscv64-unknown-elf",),
        file="/usr/lib/picolibc/riscv64-unknown-elf/lib/libc.a",
    ),
    Need(("debootstrap",), program="debootstrap"),
    Need(("skopeo",), program="skopeo"),
    Need(("docker.io",), program="dockerd"),
    # From Debian 13 on, the client is a package of its own.
    Need(("docker-cli", "docker.io"), program="docker"),
)


def missing(needs: Iterable[Need]) -> list[Need]:
    """Return the needs that the machine does not meet."""
    return [need for need in needs if not need.is_met]
