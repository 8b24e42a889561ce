"""What goes wrong around a build: caches that die, lie or crawl, and disks that fill up. After each of these the next run succeeds, what is in
dist/ is whole and verifiable, and Pants' store holds what its digests say.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faulty_network import nonsense, slow_line
from one_service import PICOLIBC, OneService
from pants_project import completed_processes
from pants_store import stored_bytes
from reapi_server import RemoteCache, cache_options

_MIB = 1 << 20


# --- caches -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteCache]:
    with RemoteCache(tmp_path_factory.mktemp("remote") / "cache") as cache:
        yield cache


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneService]:
    with OneService(tmp_path_factory.mktemp("one") / "repository", fields=PICOLIBC) as repository:
        yield repository


def test_a_cache_that_dies_in_the_middle(repository: OneService, cache: RemoteCache) -> None:
    repository.change()
    process = repository.project.start("--pantsd", *cache.options, "package", "::")
    assert process.stdout is not None
    assert any("Completed: Compile app/main.c" in line for line in process.stdout)
    cache.kill()
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    repository.check()
    # While it is away, and when it is there again.
    repository.change()
    repository.package(*cache.options, daemon=True)
    cache.start()
    repository.change()
    repository.package(*cache.options, daemon=True)


def test_a_cache_that_is_read_only(repository: OneService, cache: RemoteCache) -> None:
    cache.stop()
    cache.start(read_only=True)
    try:
        repository.change()
        repository.package(*cache.options, daemon=True)
    finally:
        cache.stop()
        cache.start()


def test_a_cache_that_is_slow(repository: OneService, cache: RemoteCache) -> None:
    with slow_line(cache.port, 1) as port:
        repository.change()
        repository.package(*cache_options(port))


def test_a_cache_that_talks_nonsense(repository: OneService) -> None:
    with nonsense() as port:
        repository.change()
        repository.package(*cache_options(port))


@pytest.fixture(scope="module")
def from_nothing(tmp_path_factory: pytest.TempPathFactory, cache: RemoteCache) -> Iterator[OneService]:
    """Packaged by a Pants that had nothing, and whose results are all in the remote cache."""
    directory = tmp_path_factory.mktemp("nothing")
    with OneService(directory / "repository", fields=PICOLIBC, cache=directory / "cache") as repository:
        repository.package(*cache.options)
        yield repository


def test_a_cache_that_returns_garbage(from_nothing: OneService, tmp_path: Path, cache: RemoteCache) -> None:
    blobs = sorted(file for file in cache.storage.rglob("*") if file.is_file() and file.stat().st_size)
    assert len(blobs) > 20
    for number, blob in enumerate(blobs):
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] if number % 2 else bytes([content[0] ^ 0x55]) + content[1:])
    with OneService(tmp_path / "repository", fields=PICOLIBC, cache=tmp_path / "cache") as repository:
        repository.same_as(from_nothing)
        printed = repository.package(*cache.options)
        assert [process for process in completed_processes(printed) if process.startswith("Link app:unikernel")]
        assert repository.image.read_bytes() == from_nothing.image.read_bytes()


# --- disks --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """`size` is in bytes. Needs root, as the tests with a Docker engine do."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def grow(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def test_a_full_disk_below_the_store(from_nothing: OneService, tmp_path: Path) -> None:
    some = stored_bytes(from_nothing.store) // 2
    with small_disk(tmp_path / "disk", some) as disk, OneService(
        tmp_path / "repository", fields=PICOLIBC, cache=disk
    ) as repository:
        status, printed = repository.project.run("--no-pantsd", "package", "::")
        assert status != 0 and "No space left on device" in printed, printed
        assert not repository.image.exists()
        grow(disk, 1 << 30)
        repository.package()


def test_a_full_disk_below_dist(tmp_path: Path) -> None:
    with OneService(tmp_path / "repository") as repository:
        with small_disk(tmp_path / "repository/dist", 2 * _MIB) as disk:
            no_space_for(repository)
            assert list(disk.rglob("unikernel.*")) == []
            grow(disk, 64 * _MIB)
            repository.package(daemon=True)
            image = repository.image.read_bytes()
            # Nothing of the next one is there, and all of this one.
            grow(disk, used(disk) + 2 * _MIB)
            repository.change()
            no_space_for(repository)
            assert repository.image.read_bytes() == image
            assert repository.verification().holds
            grow(disk, 64 * _MIB)
            repository.package(daemon=True)


def no_space_for(repository: OneService) -> None:
    status, printed = repository.project.run("--pantsd", "package", "app:unikernel")
    assert status != 0 and "No space left on device" in printed, printed
    assert list(repository.project.root.rglob(".staging-*")) == []


def used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize
