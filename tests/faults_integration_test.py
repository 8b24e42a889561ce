"""What goes wrong around a build: caches that die, lie or crawl, disks that fill up, runs that meet or are killed. After each of these the next
run succeeds, what is in dist/ is whole and verifiable, and Pants' store holds what its digests say.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from faulty_network import nonsense, slow_line
from pants_project import PantsProject, completed_processes
from pants_store import damaged_entries, store_of, stored_bytes
from reapi_server import RemoteCache, cache_options
from unikernel.signing.development_key import public_part_path
from unikernel.signing.keys import PublicKey
from unikernel.signing.policy import Policy
from unikernel.signing.verify import Verification, verify_image

# Of a library OS without a kernel to compile: all of it is built in seconds, also into an empty store.
_PICOLIBC = 'library_os="picolibc"'
_BUILD = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
unikernel_image(name="unikernel", app=":program", network="none", {fields})
"""
_KILLS = 20
_MIB = 1 << 20


class Repository:
    """One service. `store` is Pants' local store: by default the user's, with what is built in it."""

    def __init__(self, root: Path, fields: str = _PICOLIBC, cache: Path | None = None) -> None:
        environment = {} if cache is None else {"XDG_CACHE_HOME": str(cache)}
        self.store = store_of(cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"))
        self.project = PantsProject(root, environment=environment)
        self.project.write("app/BUILD", _BUILD.format(fields=fields))
        self.image = root / "dist/app/unikernel.elf"
        self.change()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.project.__exit__()

    def change(self) -> None:
        """To something that no cache knows, and that is in the image."""
        self._mark = uuid.uuid4().hex
        text = f'#include <stdio.h>\nint main(void) {{ return puts("{self._mark}") < 0; }}\n'
        self.project.write("app/main.c", text)

    def same_as(self, other: Repository) -> None:
        self._mark = other._mark
        self.project.write("app/main.c", (other.project.root / "app/main.c").read_bytes())

    def package(self, *options: str, daemon: bool = False) -> str:
        """All is well afterwards."""
        printed = self.project.succeed("--pantsd" if daemon else "--no-pantsd", *options, "package", "::")
        self.check()
        return printed

    def verification(self) -> Verification:
        keys = [PublicKey.load(public_part_path(self.project.development_key))]
        return verify_image(self.image, keys, Policy(development_keys=True))

    def check(self) -> None:
        verification = self.verification()
        assert verification.holds, verification.failures()
        assert self._mark.encode() in self.image.read_bytes()
        assert damaged_entries(self.store) == []


# --- caches -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteCache]:
    with RemoteCache(tmp_path_factory.mktemp("remote") / "cache") as cache:
        yield cache


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    with Repository(tmp_path_factory.mktemp("one") / "repository") as repository:
        yield repository


def test_a_cache_that_dies_in_the_middle(repository: Repository, cache: RemoteCache) -> None:
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


def test_a_cache_that_is_read_only(repository: Repository, cache: RemoteCache) -> None:
    cache.stop()
    cache.start(read_only=True)
    try:
        repository.change()
        repository.package(*cache.options, daemon=True)
    finally:
        cache.stop()
        cache.start()


def test_a_cache_that_is_slow(repository: Repository, cache: RemoteCache) -> None:
    with slow_line(cache.port, 1) as port:
        repository.change()
        repository.package(*cache_options(port))


def test_a_cache_that_talks_nonsense(repository: Repository) -> None:
    with nonsense() as port:
        repository.change()
        repository.package(*cache_options(port))


@pytest.fixture(scope="module")
def from_nothing(tmp_path_factory: pytest.TempPathFactory, cache: RemoteCache) -> Iterator[Repository]:
    """Packaged by a Pants that had nothing, and whose results are all in the remote cache."""
    directory = tmp_path_factory.mktemp("nothing")
    with Repository(directory / "repository", cache=directory / "cache") as repository:
        repository.package(*cache.options)
        yield repository


def test_a_cache_that_returns_garbage(from_nothing: Repository, tmp_path: Path, cache: RemoteCache) -> None:
    blobs = sorted(file for file in cache.storage.rglob("*") if file.is_file() and file.stat().st_size)
    assert len(blobs) > 20
    for number, blob in enumerate(blobs):
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] if number % 2 else bytes([content[0] ^ 0x55]) + content[1:])
    with Repository(tmp_path / "repository", cache=tmp_path / "cache") as repository:
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


def test_a_full_disk_below_the_store(from_nothing: Repository, tmp_path: Path) -> None:
    some = stored_bytes(from_nothing.store) // 2
    with small_disk(tmp_path / "disk", some) as disk, Repository(tmp_path / "repository", cache=disk) as repository:
        status, printed = repository.project.run("--no-pantsd", "package", "::")
        assert status != 0 and "No space left on device" in printed, printed
        assert not repository.image.exists()
        grow(disk, 1 << 30)
        repository.package()


def test_a_full_disk_below_dist(tmp_path: Path) -> None:
    with Repository(tmp_path / "repository", fields="") as repository:
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


def no_space_for(repository: Repository) -> None:
    status, printed = repository.project.run("--pantsd", "package", "app:unikernel")
    assert status != 0 and "No space left on device" in printed, printed
    assert list(repository.project.root.rglob(".staging-*")) == []


def used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


# --- runs ---------------------------------------------------------------------------------------------------------


def test_two_runs_at_once(repository: Repository) -> None:
    for options in (["--no-pantsd"], ["--pantsd"], ["--pantsd", "--concurrent"]):
        repository.change()
        runs = [repository.project.start(*options, "package", "::") for _ in range(2)]
        for run in runs:
            printed, _ = run.communicate()
            assert run.returncode == 0, printed
        repository.check()


def test_runs_that_are_killed(tmp_path: Path) -> None:
    """At random moments of all that a changed service takes: compilers, the final link, the signature, the writing of dist/. Killed are, by
    turns, a run without a daemon, a run whose daemon lives on, and the daemon in the midst of a run.
    """
    generator = random.Random(7)
    with Repository(tmp_path / "repository", fields="") as repository:
        repository.package(daemon=True)
        moments = {option: moments_of_a_run(repository, option) for option in ("--no-pantsd", "--pantsd")}
        for number in range(_KILLS):
            repository.change()
            before = repository.image.read_bytes()
            option, whole_daemon = (("--no-pantsd", False), ("--pantsd", False), ("--pantsd", True))[number % 3]
            process = repository.project.start(option, "package", "::")
            time.sleep(generator.uniform(*moments[option]))
            if whole_daemon:
                repository.project.kill_daemon()
            else:
                os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            left = repository.image.read_bytes()
            repository.package(daemon=True)
            assert left in (before, repository.image.read_bytes())


def moments_of_a_run(repository: Repository, option: str) -> tuple[float, float]:
    """Of a changed service: when its first process starts, and when it ends. Seconds after its own start."""
    repository.change()
    start = time.monotonic()
    process = repository.project.start(option, "package", "::")
    assert process.stdout is not None
    assert any("Starting: " in line for line in process.stdout)
    first = time.monotonic() - start
    process.communicate()
    assert process.returncode == 0
    return first, time.monotonic() - start
