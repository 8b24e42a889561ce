"""A remote cache for tests: BuildGrid, a server of the Remote Execution API (github.com/bazelbuild/remote-apis)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from machine import free_port

LOCK = Path("3rdparty/python/buildgrid.lock")
# The oldest that it runs on; wheels are there up to the newest.
_PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14", "python3")
_PATIENCE_SECONDS = 60
_SERVER = "from buildgrid.server.app.cli import cli; cli()"
_CONFIGURATION = """\
description: A cache on disk, without execution
# As many requests as Pants makes at once ([GLOBAL].remote_store_rpc_concurrency); what is above is refused.
thread-pool-size: 256
server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
instances:
  - name: ''
    storages:
      - !disk-storage &storage
        path: {storage}
    caches:
      - !lru-action-cache &actions
        storage: *storage
        max-cached-refs: 100000
        allow-updates: true
    services:
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
      - !action-cache
        cache: *actions
"""


class RemoteCache:
    """Use it in a `with`: it listens on `address` inside, and is gone after. `storage` has all that it stores."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.storage = directory / "storage"
        self._port = free_port()

    @property
    def address(self) -> str:
        return f"grpc://127.0.0.1:{self._port}"

    @property
    def options(self) -> tuple[str, ...]:
        """What makes Pants use it."""
        return ("--remote-cache-read", "--remote-cache-write", f"--remote-store-address={self.address}")

    def __enter__(self) -> RemoteCache:
        self.directory.mkdir(parents=True)
        python, packages = _python(), self.directory / "packages"
        _install(python, packages, self.directory / "venv")
        configuration = self.directory / "configuration.yml"
        configuration.write_text(_CONFIGURATION.format(port=self._port, storage=self.storage))
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-c", _SERVER, "server", "start", str(configuration)],
                cwd=self.directory,
                env={"PYTHONPATH": str(packages), "LC_ALL": "C.UTF-8", "HOME": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError(f"BuildGrid did not start:\n{(self.directory / 'log').read_text()}")


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
