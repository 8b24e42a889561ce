from __future__ import annotations

import stat

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.limits import KERNEL_MEMORY, LARGEST_ROOTFS, MemoryNeeds, check_linkable, check_needs, choose_memory
from unikernel.rootfs.layer import IndexEntry, LayerIndex

_MIB = 2**20


def _index(name: str = "x", *sizes: int, **settings: object) -> LayerIndex:
    entries = [IndexEntry(f"/{number}", stat.S_IFREG | 0o644, size) for number, size in enumerate(sizes)]
    return LayerIndex(name, entries, **settings)  # type: ignore[arg-type]


def test_needs_that_other_layers_provide_are_met() -> None:
    check_needs(
        [
            _index("application", needs={"liba.so": "/app/a", "/opt/libb.so": "/app/a"}, programs={"/lib/ld.so": "/app/a"}),
            _index("libraries", provides={"liba.so": "/usr/lib/liba.so"}),
            LayerIndex("loader", [IndexEntry(path, stat.S_IFREG | 0o755) for path in ("/lib/ld.so", "/opt/libb.so")]),
        ]
    )


def test_every_need_that_is_not_met_is_named_with_who_has_it() -> None:
    with pytest.raises(UnikernelError) as caught:
        check_needs(
            [
                _index("a", needs={"liba.so": "/app/a"}),
                _index("b", programs={"/lib/ld.so": "/app/b"}, provides={"libc.so": "/x"}),
            ]
        )
    assert "/app/a needs liba.so" in str(caught.value)
    assert "/app/b needs /lib/ld.so" in str(caught.value)


def test_memory_that_nobody_declares_leaves_room_and_is_round() -> None:
    small = choose_memory(None, [_index("x", 1, archive_size=1000)])
    assert small % (64 * _MIB) == 0
    assert small >= KERNEL_MEMORY + 128 * _MIB
    assert choose_memory(None, [_index("x", 100 * _MIB, archive_size=100 * _MIB)]) >= small + 100 * _MIB - 64 * _MIB


def test_declared_memory_is_taken_when_it_suffices() -> None:
    # 1/24 and 1 KiB an entry are what the kernel needs to know of pages and files.
    least = 48 * _MIB + 2 * _MIB + 3 * 1024 + KERNEL_MEMORY
    index = _index("x", 1, 4096, 0, archive_size=48 * _MIB)
    assert choose_memory(least, [index]) == least
    with pytest.raises(UnikernelError, match="memory: 66 MiB are too small .*at least 67 MiB") as caught:
        choose_memory(least - 1, [index])
    assert "48 MiB of files, 19 MiB for the kernel" in str(caught.value)


def test_a_root_file_system_that_no_kernel_can_hold_is_refused() -> None:
    check_linkable([_index("x", archive_size=LARGEST_ROOTFS)])
    with pytest.raises(UnikernelError, match="is 461 MB, and at most 460 MB can be linked"):
        check_linkable([_index("x", archive_size=LARGEST_ROOTFS), _index("y", archive_size=10**6)])


def test_memory_for_a_library_os_that_keeps_copies_or_none() -> None:
    index = _index("x", 1, 4096, 0, archive_size=48 * _MIB)
    least = 2 * (48 * _MIB + 2 * _MIB) + 3 * 1024 + 8 * _MIB
    assert choose_memory(least, [index], MemoryNeeds(8 * _MIB, copies=2)) == least
    assert choose_memory(8 * _MIB, [index], MemoryNeeds(8 * _MIB, copies=0)) == 8 * _MIB
