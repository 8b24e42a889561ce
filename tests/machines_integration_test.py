"""Three machines with one repository: one with this machine's caches, one elsewhere that starts with nothing and fills a remote cache, and
one that has nothing but that cache. All have the same images; the last one builds nothing; and the key of the second is in nothing that it
keeps or gives away.
"""

from __future__ import annotations

import base64
import mmap
import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from pants_project import PantsProject, completed_processes, counters
from pants_store import store_of, stored_bytes
from reapi_server import RemoteCache
from sample_services import make_services_project
from unikernel.testing.signing import write_key

# Of C and of Python, with the same kernel: it takes minutes to compile.
GOALS = ("src/services/greeter::", "src/services/hello::")
COMPILING = "Starting: Compile the Linux kernel"
# What each machine does by itself: it looks at itself, as Pants does for interpreters and programs.
LOOKING = ("Find the kernel's source", "Find the shared libraries of ", "Look at the Python interpreter ")


@dataclass(frozen=True)
class PlantedKey:
    """An encrypted key, whose password is in the environment variable that Pants is told of."""

    path: Path
    password: str

    @classmethod
    def plant(cls, directory: Path) -> PlantedKey:
        directory.mkdir()
        password = f"planted-{secrets.token_hex(16)}"
        return cls(write_key(directory / "key.pem", password=password.encode()), password)

    def secrets(self) -> dict[str, bytes]:
        """What must be nowhere: as it is, and as it might be written."""
        pem = self.path.read_bytes()
        key = load_pem_private_key(pem, self.password.encode())
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        number = key.private_numbers().private_value.to_bytes(32, "big")
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "the password": self.password.encode(),
            "the password in base64": base64.b64encode(self.password.encode()).rstrip(b"=")[:-1],
            "the key file": pem.splitlines()[2],
            "the key, decrypted": plain.splitlines()[2],
            "the key's number": number,
            "the key's number in hex": number.hex().encode(),
            "the key's number in decimal": str(int.from_bytes(number, "big")).encode(),
        }


@dataclass(frozen=True)
class Machines:
    usual: PantsProject
    empty: PantsProject
    key: PlantedKey
    cache: RemoteCache
    directory: Path
    printed: str

    def places(self) -> list[Path]:
        """All that the machine that started with nothing has kept, and what it gave away."""
        return [self.empty.root, self.directory / "cache", self.directory / "sandboxes", self.cache.storage, self.directory / "log"]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    directory = tmp_path_factory.mktemp("machines")
    key = PlantedKey.plant(directory / "keys")
    with make_services_project(directory / "one") as usual, make_services_project(
        directory / "a/longer/path", directory / "cache"
    ) as empty, RemoteCache(directory / "remote") as cache:
        usual.succeed("package", *GOALS)
        # With the cache, too: what is in the local store already is not written to the remote one.
        kill_while_compiling(empty, *cache.options)
        assert not empty.dist()
        printed = empty.succeed(
            *("--no-pantsd", "--level=debug", "--keep-sandboxes=always", *cache.options),
            f"--local-execution-root-dir={sandboxes(directory)}",
            *(f"--unikernel-signing-key={key.path}", "--unikernel-signing-password-env=KEY_PASSWORD"),
            *("package", *GOALS),
            environment={"KEY_PASSWORD": key.password},
        )
        (directory / "log").write_text(printed)
        yield Machines(usual, empty, key, cache, directory, printed)


def sandboxes(directory: Path) -> Path:
    path = directory / "sandboxes"
    path.mkdir()
    return path


def kill_while_compiling(project: PantsProject, *options: str) -> None:
    process = project.start("--no-pantsd", *options, "package", *GOALS)
    assert process.stdout is not None
    for line in process.stdout:
        if COMPILING in line:
            break
    else:
        raise AssertionError("the kernel was not compiled")
    # Some way into it: the source is unpacked by then.
    time.sleep(30)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_same_images_from_another_path_and_empty_caches_after_a_killed_build(machines: Machines) -> None:
    assert COMPILING in machines.printed
    assert len(machines.usual.digests(".elf")) == len(GOALS)
    assert machines.usual.digests(".elf") == machines.empty.digests(".elf")


@dataclass(frozen=True)
class Newcomer:
    project: PantsProject
    printed: str


@pytest.fixture(scope="module")
def newcomer(machines: Machines) -> Iterator[Newcomer]:
    """Another checkout of another user: what it has not built itself is in the remote cache."""
    directory = machines.directory / "newcomer"
    home = directory / "home"
    home.mkdir(parents=True)
    with make_services_project(directory / "checkout", directory / "cache") as project:
        options = ("--no-pantsd", "--stats-log", *machines.cache.options)
        # Its interpreters are the same ones: they may be below this user's home.
        environment = {"HOME": str(home), "PYENV_ROOT": os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv")}
        yield Newcomer(project, project.succeed(*options, "package", *GOALS, environment=environment))


def test_with_a_filled_remote_cache_nothing_is_built_and_all_is_signed(machines: Machines, newcomer: Newcomer) -> None:
    built = [process for process in completed_processes(newcomer.printed) if not process.startswith(LOOKING)]
    assert built == []
    counted = counters(newcomer.printed)
    # Of the kernel, PID 1, C programs, layers, PEXes, images and SBOMs, there is more than one each.
    assert counted["remote_cache_requests_cached"] == counted["remote_cache_requests"] >= 20
    assert counted["remote_cache_requests_uncached"] == counted["remote_cache_read_errors"] == 0
    assert newcomer.project.digests(".elf") == machines.empty.digests(".elf")
    # By its own key, which is new there.
    newcomer.project.succeed("unikernel-verify", *GOALS)


def test_the_key_is_in_no_cache_no_log_no_sandbox_and_no_package(machines: Machines) -> None:
    wanted = machines.key.secrets()
    searched = [file for place in machines.places() for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    files = [file for file in searched if file.is_file() and not file.is_symlink()]
    # They are where they are looked for: sandboxes with inputs and commands, debug output, the local and the remote store.
    assert any(file.name == "__run.sh" for file in files)
    assert "[DEBUG]" in machines.printed
    assert any(file.suffix == ".mdb" for file in files)
    assert sum(file.stat().st_size for file in files if machines.cache.storage in file.parents) > 10**7
    found = [f"{file}: {name}" for file in files for name in sorted(found_in(file, wanted))]
    assert found == []


def found_in(file: Path, wanted: dict[str, bytes]) -> set[str]:
    if file.stat().st_size == 0:
        return set()
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return {name for name, secret in wanted.items() if content.find(secret) >= 0}


def test_a_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    key = PlantedKey.plant(tmp_path / "keys")
    wanted = key.secrets()
    assert found_in(key.path, wanted) == {"the key file"}
    for name, secret in wanted.items():
        (tmp_path / "file").write_bytes(b"\0" * 100 + secret + b"\n")
        assert name in found_in(tmp_path / "file", wanted)


def test_a_changed_service_adds_at_most_two_and_a_half_times_its_image_to_the_store(machines: Machines) -> None:
    """The last one: it changes a service. No scratch tree is kept, and nothing twice."""
    project, store = machines.empty, store_of(machines.directory / "cache")
    source = project.root / "src/services/hello/hello.c"
    source.write_text(source.read_text() + "const int changed = 1;\n")
    before = stored_bytes(store)
    project.succeed("--no-pantsd", "package", "src/services/hello::")
    image = (project.root / "dist/src.services.hello/unikernel.elf").stat().st_size
    assert image < stored_bytes(store) - before < 2.5 * image
