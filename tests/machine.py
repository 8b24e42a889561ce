"""Boots images for tests: a machine that is always gone at the end of a `with`, its console, and requests to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from unikernel.signing.development_key import development_key_path, public_part_path

# Under emulation on a busy machine; a test that waits this long has failed.
PATIENCE_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machine:
    """`unikernel run IMAGE OPTIONS -- ARGUMENTS` as a child process, under QEMU's own emulation: it is everywhere the same.

    The image has to be signed by `key`, a public key's path: by default that of this user's development key.
    """

    def __init__(
        self, image: str | Path, *, options: Sequence[str] = (), arguments: Sequence[str] = (), key: Path | None = None
    ) -> None:
        trusted = key or public_part_path(development_key_path(os.environ))
        self._command = [
            *(sys.executable, "-m", "unikernel", "run", "--accel=tcg", f"--key={trusted}", "--allow-development-keys"),
            *(*options, str(image), "--", *arguments),
        ]
        self._console: list[str] = []
        self._changed = threading.Condition()
        self._ended = False

    def __enter__(self) -> Machine:
        self.process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._console.append(line.decode(errors="replace").replace("\r", ""))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def console(self) -> str:
        with self._changed:
            return "".join(self._console)

    def wait_for(self, text: str) -> None:
        """Returns when the console has `text`; fails when the machine ends before, or takes too long."""
        with self._changed:
            found = self._changed.wait_for(lambda: text in "".join(self._console) or self._ended, timeout=PATIENCE_SECONDS)
        assert found and text in self.console, f"no {text!r} on the console:\n{self.console}"

    def wait(self) -> int:
        """The application's exit status."""
        status = self.process.wait(PATIENCE_SECONDS)
        self._reader.join()
        return status


def boot(
    image: str | Path, *, options: Sequence[str] = (), arguments: Sequence[str] = (), key: Path | None = None
) -> tuple[int, str]:
    """Runs an image to its end: its application's exit status, and the console."""
    with Machine(image, options=options, arguments=arguments, key=key) as machine:
        return machine.wait(), machine.console


def http_get(port: int, path: str) -> tuple[int, str]:
    """Status and body. Tries again until the service accepts connections, as long as a test may take."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except (ConnectionError, urllib.error.URLError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            # QEMU takes connections as soon as it starts and drops them while nobody listens in the guest.
            time.sleep(0.05)
