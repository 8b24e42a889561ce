"""What rules about Linux as a library OS hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from pants.engine.fs import Digest
from pants.util.frozendict import FrozenDict

# Of the shell and what it calls (POSIX's utilities).
BASIC_DIRECTORIES = ("/usr/bin", "/bin")


@dataclass(frozen=True)
class Toolchain:
    """Paths by program name. `fingerprint` changes with the version of any of them.

    `directories` has those of the programs in the order in which they were searched: a program
    called by name is the same.
    """

    paths: FrozenDict[str, str]
    directories: tuple[str, ...]
    fingerprint: str

    @property
    def environment(self) -> dict[str, str]:
        """For a process that calls the programs by name; the fingerprint makes their versions part
        of its cache key.
        """
        directories = dict.fromkeys((*self.directories, *BASIC_DIRECTORIES))
        return {"PATH": ":".join(directories), "UNIKERNEL_TOOLCHAIN": self.fingerprint}


@dataclass(frozen=True)
class LinkToolchain(Toolchain):
    """What links images."""


@dataclass(frozen=True)
class KernelToolchain(Toolchain):
    """What compiles kernels."""


@dataclass(frozen=True)
class InitToolchain(Toolchain):
    """What compiles PID 1; `compiler` is the name of the compiler that was found."""

    compiler: str


@dataclass(frozen=True)
class KernelSource:
    """`digest` holds one file, `path`: the tarball."""

    digest: Digest
    path: str


@dataclass(frozen=True)
class LinuxMaterials:
    """What this machine and the repository have for kernels of all configurations, and for PID 1."""

    source: KernelSource
    kernel_toolchain: KernelToolchain
    init_toolchain: InitToolchain


@dataclass(frozen=True)
class LinuxSupply:
    """Where the Linux parts of one kernel configuration come from.

    `unpacked` is a verified prebuilt kit with PID 1. Without one, the parts are compiled of
    `materials`.
    """

    unpacked: Optional[Digest]
    materials: Optional[LinuxMaterials]
