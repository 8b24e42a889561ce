"""Three machines with one repository, and nothing of each other's: one that has all of it done by remote execution, one that does all of it itself
and fills a remote cache, and one that has nothing but that cache. All have the same images; the last one builds nothing; and the key of the
second is in nothing that it keeps or gives away.
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

from machine import boot
from pants_project import PantsProject, completed_processes, counters
from pants_store import store_of, stored_bytes
from reapi_server import RemoteCache, RemoteExecution
from sample_services import make_services_project
from unikernel.signing.development_key import public_part_path
from unikernel.testing.signing import write_key

PACKAGE = ("package", "src/services/images::")
IMAGES = (".elf", ".container.tar")
# Of C and of Python, with a container image and a package. They have one kernel, which is compiled twice: without what takes some of that time
# and says nothing of machines that build, and for two processors.
BUILD = """\
unikernel_image(
    name="greeter",
    app="src/services/greeter:greeter",
    memory="128M",
    network="none",
    formats=["elf", "container", "oci"],
)
unikernel_image(name="hello", app="src/services/hello:hello", memory="24M", network="none")

cc_sources(name="sources")
cc_binary(name="platform", dependencies=[":sources"])
unikernel_image(name="two-cpus", app=":platform", cpus=2, memory="48M", network="none")
"""
CONFIGURATION = """
[unikernel-linux]
kernel_config = ["CONFIG_NET=n", "CONFIG_PCI=n", "CONFIG_SMP=y"]
"""
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


def checkout(root: Path, cache: Path) -> PantsProject:
    project = make_services_project(root, cache, configuration=CONFIGURATION)
    project.write("src/services/images/BUILD", BUILD)
    project.write("src/services/images/platform.c", Path("tests/images/platform.c").read_bytes())
    return project


@dataclass(frozen=True)
class Remote:
    """A machine that lets another one do it: BuildGrid, with a worker of BuildBox's that has nothing but what an action brings and the programs
    of this machine.
    """

    project: PantsProject
    server: RemoteExecution
    printed: str


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    directory = tmp_path_factory.mktemp("remote")
    with checkout(directory / "checkout", directory / "cache") as project, RemoteExecution(directory / "server") as server:
        printed = project.succeed("--no-pantsd", "--stats-log", *server.options, *PACKAGE)
        yield Remote(project, server, printed)


@dataclass(frozen=True)
class Cold:
    """A machine that started with nothing, and did all of it itself."""

    project: PantsProject
    key: PlantedKey
    cache: RemoteCache
    directory: Path
    printed: str

    def places(self) -> list[Path]:
        """All that it has kept, and what it gave away."""
        return [
            self.project.root,
            self.directory / "cache",
            self.directory / "sandboxes",
            self.cache.storage,
            self.directory / "log",
        ]


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cold]:
    directory = tmp_path_factory.mktemp("cold")
    key = PlantedKey.plant(directory / "keys")
    with checkout(directory / "a/longer/path", directory / "cache") as project, RemoteCache(directory / "remote") as cache:
        # With a store of its own: what was in the local one, and not yet in the remote one when it was killed, would not be written there any more.
        kill_while_compiling(project, f"--local-store-dir={directory / 'killed'}")
        assert not project.dist()
        printed = project.succeed(
            *("--no-pantsd", "--level=debug", "--keep-sandboxes=always", *cache.options),
            f"--local-execution-root-dir={sandboxes(directory)}",
            *(f"--unikernel-signing-key={key.path}", "--unikernel-signing-password-env=KEY_PASSWORD"),
            *PACKAGE,
            environment={"KEY_PASSWORD": key.password},
        )
        (directory / "log").write_text(printed)
        yield Cold(project, key, cache, directory, printed)


def sandboxes(directory: Path) -> Path:
    path = directory / "sandboxes"
    path.mkdir()
    return path


def kill_while_compiling(project: PantsProject, *options: str) -> None:
    process = project.start("--no-pantsd", *options, "package", "src/services/images:two-cpus")
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


def test_all_processes_run_remotely(remote: Remote) -> None:
    counted = counters(remote.printed)
    assert counted["local_execution_requests"] == counted["remote_execution_errors"] == 0
    assert counted["remote_execution_success"] > 20
    assert COMPILING in remote.printed
    # Signed where the key is: on this machine.
    remote.project.succeed("unikernel-verify", *PACKAGE[1:])


def test_no_action_and_no_input_has_a_path_of_the_machine_that_asks(remote: Remote) -> None:
    blobs = {file: file.read_bytes() for file in remote.server.storage.rglob("*") if file.is_file()}
    assert len(blobs) > 100
    for path in (remote.project.root, Path(remote.project.environment["XDG_CACHE_HOME"])):
        assert [file.name for file, content in blobs.items() if str(path).encode() in content] == []


def test_same_images_from_another_path_and_empty_caches_after_a_killed_build(remote: Remote, cold: Cold) -> None:
    assert COMPILING in cold.printed
    assert len(cold.project.digests(*IMAGES)) == 4
    assert cold.project.digests(*IMAGES) == remote.project.digests(*IMAGES)


def test_kernel_options_are_those_of_the_kernel_that_boots(remote: Remote) -> None:
    image = remote.project.root / "dist/src.services.images/two-cpus.elf"
    expected = "CPUs: 2\nIP: no\nunikernel: exited with status 0\n"
    assert boot(image, key=public_part_path(remote.project.development_key)) == (0, expected)


@dataclass(frozen=True)
class Newcomer:
    project: PantsProject
    printed: str


@pytest.fixture(scope="module")
def newcomer(cold: Cold) -> Iterator[Newcomer]:
    """Another checkout of another user: what it has not built itself is in the remote cache."""
    directory = cold.directory / "newcomer"
    home = directory / "home"
    home.mkdir(parents=True)
    with checkout(directory / "checkout", directory / "cache") as project:
        options = ("--no-pantsd", "--stats-log", *cold.cache.options)
        # Its interpreters are the same ones: they may be below this user's home.
        environment = {"HOME": str(home), "PYENV_ROOT": os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv")}
        yield Newcomer(project, project.succeed(*options, *PACKAGE, environment=environment))


def test_with_a_filled_remote_cache_nothing_is_built_and_all_is_signed(cold: Cold, newcomer: Newcomer) -> None:
    assert "Failed to write to remote cache" not in cold.printed
    built = [process for process in completed_processes(newcomer.printed) if not process.startswith(LOOKING)]
    assert built == []
    counted = counters(newcomer.printed)
    # Of the kernel, PID 1, C programs, layers, PEXes, images and SBOMs, there is more than one each.
    assert counted["remote_cache_requests_cached"] == counted["remote_cache_requests"] >= 20
    assert counted["remote_cache_requests_uncached"] == counted["remote_cache_read_errors"] == 0
    assert newcomer.project.digests(*IMAGES) == cold.project.digests(*IMAGES)
    # By its own key, which is new there.
    newcomer.project.succeed("unikernel-verify", *PACKAGE[1:])


def test_the_key_is_in_no_cache_no_log_no_sandbox_and_no_package(cold: Cold) -> None:
    wanted = cold.key.secrets()
    searched = [file for place in cold.places() for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    files = [file for file in searched if file.is_file() and not file.is_symlink()]
    # They are where they are looked for: sandboxes with inputs and commands, debug output, the local and the remote store.
    assert any(file.name == "__run.sh" for file in files)
    assert "[DEBUG]" in cold.printed
    assert any(file.suffix == ".mdb" for file in files)
    assert sum(file.stat().st_size for file in files if cold.cache.storage in file.parents) > 10**7
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


def test_a_changed_service_adds_at_most_two_and_a_half_times_its_image_to_the_store(cold: Cold) -> None:
    """The last one: it changes a service. No scratch tree is kept, and nothing twice."""
    project, store = cold.project, store_of(cold.directory / "cache")
    source = project.root / "src/services/hello/hello.c"
    source.write_text(source.read_text() + "const int changed = 1;\n")
    before = stored_bytes(store)
    project.succeed("--no-pantsd", "package", "src/services/images:hello")
    image = (project.root / "dist/src.services.images/hello.elf").stat().st_size
    assert image < stored_bytes(store) - before < 2.5 * image
