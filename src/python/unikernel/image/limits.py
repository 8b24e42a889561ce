"""What can be known of an image before it is linked, from the indexes of its layers alone: does it fit, is everything there."""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from unikernel.errors import UnikernelError
from unikernel.image.spec import format_size
from unikernel.library_os.description import LibraryOs
from unikernel.rootfs.layer import LayerIndex, readable

# KERNEL_IMAGE_SIZE (512 MiB, arch/x86/include/asm/page_64_types.h) less the kernel itself with its alignment: 460 MB linked and
# booted, 520 MB did not.
LARGEST_ROOTFS = 460 * 10**6
# What a kernel and a small program need to themselves, for each file (inode and name), and for each page of memory. Measured with a
# hello that boots in 16 MiB, and with 191 MiB of files in 215.
KERNEL_MEMORY = 16 * 2**20
_ENTRY_MEMORY = 1024
_PAGE_SHARE = 1 / 24
# What an image gets on top when it does not say how much memory it wants, and to what that is rounded up.
_SPARE_MEMORY = 128 * 2**20
_MEMORY_STEP = 64 * 2**20


def check_needs(indexes: Sequence[LayerIndex]) -> None:
    """Raises UnikernelError when a shared library or a loader that a layer needs is in none of them."""
    paths = {entry.path for index in indexes for entry in index.entries}
    # A needed name may be a path, and a path that leads through links is provided by that name.
    provided = paths | {soname for index in indexes for soname in index.provides}
    missing = sorted(
        {(soname, path) for index in indexes for soname, path in index.needs.items() if soname not in provided}
        | {(program, path) for index in indexes for program, path in index.programs.items() if program not in provided}
    )
    if missing:
        raise UnikernelError(
            "The image lacks shared libraries: " + "; ".join(f"{path} needs {name}" for name, path in missing) + "."
        )


def check_kinds(indexes: Sequence[LayerIndex]) -> None:
    """Raises UnikernelError when a layer has a file or a link where one below it has a directory with something in it: the kernel, which
    lays one over the other, would stop there.
    """
    directories: dict[str, bool] = {}
    for index in indexes:
        for entry in index.entries:
            is_directory = stat.S_ISDIR(entry.mode)
            if not is_directory and directories.get(entry.path) and any(path.startswith(f"{entry.path}/") for path in directories):
                raise UnikernelError(
                    f"{readable(entry.path)} is no directory in the {index.name} layer, and one in a layer below it: they do not go "
                    "together."
                )
            directories[entry.path] = is_directory


@dataclass(frozen=True)
class MemoryNeeds:
    """What an image needs beside its application: `kernel` is in bytes, and `copies` is how often the root file system is in memory."""

    kernel: int = KERNEL_MEMORY
    copies: int = 1

    @classmethod
    def of_library_os(cls, library_os: LibraryOs) -> MemoryNeeds:
        return cls(library_os.minimum_memory, library_os.rootfs_copies)

    def of(self, size: int, entries: int) -> int:
        """Bytes, for archives of `size` bytes with so many entries."""
        return math.ceil(size * self.copies * (1 + _PAGE_SHARE)) + (entries * _ENTRY_MEMORY if self.copies else 0) + self.kernel


LINUX_NEEDS = MemoryNeeds()


def choose_memory(declared: int | None, indexes: Sequence[LayerIndex], needs: MemoryNeeds = LINUX_NEEDS) -> int:
    """The image's memory in bytes. Raises UnikernelError when the rootfs does not fit the declared memory."""
    size = rootfs_size(indexes)
    needed = needs.of(size, sum(len(index.entries) for index in indexes))
    if declared is None:
        return math.ceil((needed + _SPARE_MEMORY) / _MEMORY_STEP) * _MEMORY_STEP
    if declared < needed:
        files = math.ceil(size * needs.copies)
        raise UnikernelError(
            f"memory: {declared // 2**20} MiB are too small for this root file system, which needs at least {format_size(needed)} to "
            f"boot, and what the application takes on top ({format_size(files)} of files, {format_size(needed - files)} for the kernel)."
        )
    return declared


def rootfs_size(indexes: Sequence[LayerIndex]) -> int:
    """Of all archives, in bytes."""
    return sum(index.archive_size for index in indexes)


def check_linkable(indexes: Sequence[LayerIndex]) -> None:
    """Raises UnikernelError when the archives cannot be linked with a Linux kernel."""
    size = rootfs_size(indexes)
    if size > LARGEST_ROOTFS:
        raise UnikernelError(
            f"The root file system is {size / 10**6:.0f} MB, and at most {LARGEST_ROOTFS // 10**6} MB can be linked with a kernel: "
            "leave out what the application does not need, or fetch large data at run time."
        )
