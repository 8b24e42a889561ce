"""Servers of the Remote Execution API (github.com/bazelbuild/remote-apis) for tests: BuildGrid as a remote cache, and with a worker of
BuildBox's, PostgreSQL behind both, for remote execution.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from machine import free_port
from unikernel.testing.debian_package import closure, extracted

LOCK = Path("3rdparty/python/buildgrid.lock")
# The oldest that it runs on; wheels are there up to the newest.
_PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14", "python3")
_PATIENCE_SECONDS = 60
_SERVER = "from buildgrid.server.app.cli import cli; cli()"
_TABLES = """\
import sys, sqlalchemy
from buildgrid.server.sql.models import Base
Base.metadata.create_all(sqlalchemy.create_engine(sys.argv[1]))
"""
_CHANNEL = """\
# As many requests as Pants makes at once ([GLOBAL].remote_store_rpc_concurrency); what is above is refused.
thread-pool-size: 256
server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
storages:
  - !disk-storage &storage
    path: {storage}
caches:
  - !lru-action-cache &actions
    storage: *storage
    max-cached-refs: 100000
    allow-updates: {updates}
"""
_CACHE = """\
instances:
  - name: ''
    services:
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
      - !action-cache
        cache: *actions
"""
_SCHEDULER = """\
connections:
  - !sql-connection &sql
    connection-string: "{database}"
    pool-size: 20
schedulers:
  - !sql-scheduler &scheduler
    storage: *storage
    sql: *sql
    action-cache: *actions
    poll-interval: 0.1
    property-set:
      !dynamic-property-set
        unique-property-keys: []
"""
_EXECUTION = """\
      - !execution
        scheduler: *scheduler
      - !bots
        scheduler: *scheduler
"""


class RemoteCache:
    """Use it in a `with`: it listens on `address` inside, and is gone after. `storage` has all that it stores.

    It may be stopped and started in between. With `read_only`, what is stored before stays as it is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.storage = directory / "storage"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    @property
    def options(self) -> tuple[str, ...]:
        """What makes Pants use it."""
        return cache_options(self.port)

    def __enter__(self) -> RemoteCache:
        self.directory.mkdir(parents=True)
        self._python, self._packages = _python(), self.directory / "packages"
        _install(self._python, self._packages, self.directory / "venv")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, read_only: bool = False) -> None:
        configuration = self.directory / "configuration.yml"
        configuration.write_text(self._configuration(read_only=read_only))
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, "-c", _SERVER, "server", "start", str(configuration)],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None

    def kill(self) -> None:
        """As a machine that goes away."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def _configuration(self, *, read_only: bool) -> str:
        return self._channel(read_only) + _CACHE

    def _channel(self, read_only: bool) -> str:
        return _CHANNEL.format(port=self.port, storage=self.storage, updates="false" if read_only else "true")

    def _environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self._packages), "LC_ALL": "C.UTF-8", "HOME": str(self.directory)}

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"BuildGrid did not start:\n{(self.directory / 'log').read_text()}")


def cache_options(port: int) -> tuple[str, ...]:
    """What makes Pants use a remote cache on this machine."""
    return ("--remote-cache-read", "--remote-cache-write", f"--remote-store-address=grpc://127.0.0.1:{port}")


class RemoteExecution(RemoteCache):
    """With a worker, on this machine and with its tools, in directories of its own."""

    @property
    def options(self) -> tuple[str, ...]:
        return (
            "--remote-execution",
            f"--remote-execution-address={self.address}",
            f"--remote-store-address={self.address}",
            f"--remote-execution-append-only-caches-base-path={self.directory / 'named_caches'}",
        )

    def __enter__(self) -> RemoteExecution:
        with ExitStack() as stack:
            database = stack.enter_context(_PostgreSQL())
            self._database = f"postgresql+psycopg2://{database.user}@/postgres?host={database.directory}"
            super().__enter__()
            stack.callback(super().__exit__)
            stack.callback(_end, self._start_worker())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *, read_only: bool = False) -> None:
        subprocess.run([self._python, "-c", _TABLES, self._database], env=self._environment(), check=True)
        super().start(read_only=read_only)

    def _configuration(self, *, read_only: bool) -> str:
        return self._channel(read_only) + _SCHEDULER.format(database=self._database) + _CACHE + _EXECUTION

    def _start_worker(self) -> subprocess.Popen[bytes]:
        programs, runner = _buildbox(self.directory / "programs"), self.directory / "programs/runner"
        shim = Path(__file__).with_name("reapi_runner.py")
        runner.write_text(f'#!/bin/sh\nPYTHONPATH="{self._packages}" exec "{self._python}" "{shim}" "{programs["run"]}" "$@"\n')
        runner.chmod(0o755)
        workspace = self.directory / "workspace"
        workspace.mkdir()
        command = [programs["worker"], f"--remote=http://127.0.0.1:{self.port}", f"--buildbox-run={runner}", "--concurrent-jobs=2"]
        command += ["--runner-arg=--disable-localcas", f"--runner-arg=--workspace-path={workspace}", "worker"]
        with (self.directory / "worker.log").open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- what it is made of -------------------------------------------------------------------------------------------


def _python() -> str:
    """An interpreter that BuildGrid runs on."""
    for name in _PYTHONS:
        path = shutil.which(name)
        is_new = [path or "", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        if path is not None and subprocess.run(is_new, stderr=subprocess.DEVNULL).returncode == 0:
            return path
    raise AssertionError("BuildGrid needs CPython 3.11 or newer, and there is none on PATH.")


def _install(python: str, packages: Path, venv: Path) -> None:
    """Debian's Python comes without pip: that of the tests' own interpreter installs for the other one."""
    version = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    series = subprocess.run(version, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()
    subprocess.run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(venv)], check=True)
    subprocess.run(
        [
            *(str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", f"--requirement={LOCK}", f"--target={packages}"),
            *("--implementation=cp", f"--python-version={series}", "--only-binary=:all:"),
            *("--platform=manylinux2014_x86_64", "--platform=manylinux_2_28_x86_64"),
            # It compares with the Python that it runs on.
            "--ignore-requires-python",
        ],
        check=True,
    )


def _buildbox(directory: Path) -> Mapping[str, str]:
    """BuildBox's worker, and what runs an action with the tools of this machine. Debian has them in sid alone: they run with that
    release's C library and loader, beside this machine's own.
    """
    directory.mkdir()
    root = closure("buildbox", release="sid")
    loader = root / "usr/lib64/ld-linux-x86-64.so.2"
    libraries = root / "usr/lib/x86_64-linux-gnu"
    programs = {"worker": "buildbox-worker", "run": "buildbox-run-hosttools"}
    for name in programs.values():
        starter = directory / name
        starter.write_text(f'#!/bin/sh\nexec "{loader}" --library-path "{libraries}" "{root / "usr/bin" / name}" "$@"\n')
        starter.chmod(0o755)
    return {key: str(directory / name) for key, name in programs.items()}


class _PostgreSQL:
    """A server that only this machine reaches, by a socket in `directory`. It refuses to run as root, and runs as `nobody` then."""

    user = "buildgrid"

    def __enter__(self) -> _PostgreSQL:
        # Not below a test's own directory, which is its user's alone.
        self._temporary = tempfile.TemporaryDirectory(prefix="postgresql-")
        self.directory = Path(self._temporary.name)
        programs = self._programs()
        as_user: Sequence[str] = ()
        if os.geteuid() == 0:
            shutil.chown(self.directory, "nobody")
            as_user = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
        data = self.directory / "data"
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "LD_LIBRARY_PATH": str(programs.parents[2] / "x86_64-linux-gnu")}
        initdb = [*as_user, str(programs / "initdb"), f"--pgdata={data}", "--auth=trust", f"--username={self.user}", "--no-sync"]
        subprocess.run([*initdb, "--encoding=UTF8"], env=environment, cwd="/", stdout=subprocess.DEVNULL, check=True)
        server = [*as_user, str(programs / "postgres"), "-D", str(data), "-k", str(self.directory), "-c", "listen_addresses="]
        self._process = subprocess.Popen(
            [*server, "-c", "fsync=off"], env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (self.directory / ".s.PGSQL.5432").exists():
            assert self._process.poll() is None and time.monotonic() < deadline, "PostgreSQL did not start."
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._process)
        self._temporary.cleanup()

    @staticmethod
    def _programs() -> Path:
        """The directory of the newest release that is here, or of this Debian's."""
        for root in (Path("/"), None):
            found = sorted(((root or extracted("postgresql", dependencies=True)) / "usr/lib/postgresql").glob("*/bin/postgres"))
            if found:
                return found[-1].parent
        raise AssertionError("Debian's package postgresql has no server.")
