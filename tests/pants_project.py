"""A Pants project of its own, for tests that run Pants as a user does: the real command, in an empty directory elsewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pants

import pants_unikernel
import unikernel
from unikernel.digests import file_sha256
from unikernel.signing.development_key import development_key_path
from unikernel.signing.files import paths_beside

# The last five are what `bootstrap` finds out.
_INHERITED = (
    "HOME",
    "PATH",
    "PYENV_ROOT",
    "XDG_CACHE_HOME",
    "PANTS_CA_CERTS_PATH",
    "PANTS_PEX_CLI_KNOWN_VERSIONS",
    "PANTS_PEX_CLI_URL_TEMPLATE",
    "PANTS_PYTHON_BOOTSTRAP_SEARCH_PATH",
    "PANTS_SUBPROCESS_ENVIRONMENT_ENV_VARS",
)
# What Pants prints when a busy machine takes longer to start its daemon.
_SLOW_DAEMON = "exceeded timeout of 60 seconds while waiting for pantsd to start"
DOCKER_BACKEND = "pants.backend.docker"
PYTHON_BACKEND = "pants.backend.python"
PLUGIN_SOURCE_ROOTS = tuple(Path(package.__path__[0]).parent for package in (pants_unikernel, unikernel))


class PantsProject:
    """Use it in a `with`: a Pants daemon that it starts is gone at the end, and so are the sandboxes that killed ones leave.

    By default it has the plugin from this repository's sources, without other backends, and the user's own Pants caches, with what is built in them.
    """

    # What measures Pants' start sets it: see pants_main.py.
    has_usual_start = False

    def __init__(
        self,
        root: Path,
        *,
        configuration: str = "",
        environment: Mapping[str, str] | None = None,
        isolated: bool = False,
    ) -> None:
        """With `isolated`, Pants can import only what it is installed with: nothing of this repository.

        Development keys are the project's own: see `development_key`.
        """
        self.root = root
        self._environment = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        self._environment["XDG_CONFIG_HOME"] = str(root.with_name(f"{root.name}-configuration"))
        self._sandboxes = root.with_name(f"{root.name}-sandboxes")
        self._environment["PANTS_LOCAL_EXECUTION_ROOT_DIR"] = str(self._sandboxes)
        # Pants 2.17 warns that it was not started by its own launcher, which downloads from the internet.
        self._environment.update({"NO_SCIE_WARNING": "1", **(environment or {})})
        # Python sets it by itself without a locale, and Pants' client in Rust does not. What Pants runs has it in its environment.
        self._environment.setdefault("LC_CTYPE", "C.UTF-8")
        ours = {str(source_root) for source_root in PLUGIN_SOURCE_ROOTS} | {os.getcwd()} if isolated else set()
        self._environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path and path not in ours)
        self._programs = root.with_name(f"{root.name}-programs")
        for directory in (root, self._sandboxes, self._programs):
            directory.mkdir(parents=True, exist_ok=True)
        self._client = self._make_client()
        self.write("pants.toml", configuration or plugin_configuration())

    @property
    def environment(self) -> Mapping[str, str]:
        return self._environment

    @property
    def development_key(self) -> Path:
        return development_key_path(self._environment)

    def __enter__(self) -> PantsProject:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_daemon()
        for directory in (self._sandboxes, self._programs):
            shutil.rmtree(directory, ignore_errors=True)

    def _make_client(self) -> Path:
        """Return Pants' client in Rust, which the official launcher and `./pants` start, too.

        Its wheel has it without the mode of a program.
        """
        server, client = self._programs / "pants", self._programs / "pants-client"
        # A copy, since the directory of a script is where Python imports from first.
        main = shutil.copy(Path(__file__).with_name("pants_main.py"), self._programs)
        command = shlex.join([sys.executable, *(["-m", "pants"] if self.has_usual_start else [main])])
        server.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        packaged = (Path(directory, "bin/native_client") for directory in pants.__path__)
        shutil.copyfile(next(file for file in packaged if file.is_file()), client)
        for program in (server, client):
            program.chmod(0o755)
        self._environment["_PANTS_SERVER_EXE"] = str(server)
        return client

    def kill_daemon(self) -> None:
        for file in self.root.glob(".pids/*/pantsd/pid"):
            try:
                os.kill(int(file.read_text()), signal.SIGKILL)
            except (ValueError, ProcessLookupError):
                pass

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """`environment` has what is set beside the usual."""
        return subprocess.Popen(
            [str(self._client), "--no-dynamic-ui", *arguments],
            cwd=self.root,
            env={**self._environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
        """The exit status, and what Pants printed."""
        process = self.start(*arguments, environment=environment)
        printed, _ = process.communicate()
        if process.returncode != 0 and _SLOW_DAEMON in printed:
            # It has done nothing yet, and the daemon goes on starting.
            process = self.start(*arguments, environment=environment)
            printed, _ = process.communicate()
        return process.returncode, printed

    def succeed(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        status, printed = self.run(*arguments, environment=environment)
        assert status == 0, printed
        return printed

    def fail(self, *arguments: str, expected: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """What Pants printed: all that is expected, no traceback, and nothing new in dist/."""
        before = self.dist()
        status, printed = self.run(*arguments, environment=environment)
        assert status != 0, printed
        for text in expected:
            assert text in printed, f"{text!r} is not in:\n{printed}"
        assert "Traceback" not in printed, printed
        assert self.dist() == before
        return printed

    def refuse(
        self, build: str, *expected: str, target: str = "bad:bad", targets: Sequence[str] = (), options: Sequence[str] = ()
    ) -> None:
        """Packages `targets`, or `target`, in whose directory `build` is the BUILD file for as long: see `fail`.

        Pants reads all BUILD files to find out who owns a module: a bad one would fail what follows.
        """
        file = self.write(f"{target.partition(':')[0]}/BUILD", build)
        try:
            self.fail(*options, "package", *(targets or [target]), expected=expected)
        finally:
            file.unlink()

    def dist(self) -> list[str]:
        """The files below dist/."""
        return sorted(str(path.relative_to(self.root / "dist")) for path in self.root.glob("dist/**/*") if path.is_file())

    def digests(self, *endings: str) -> dict[str, str]:
        """SHA-256, in hex, of the files below dist/ whose names end like this."""
        return {path: file_sha256(self.root / "dist" / path) for path in self.dist() if path.endswith(endings)}


def counters(printed: str) -> dict[str, int]:
    """Pants' own, of its workunits: what `--stats-log` prints."""
    return {name: int(count) for name, count in re.findall(r"^  (\w+): (\d+)$", printed, re.MULTILINE)}


def completed_processes(printed: str) -> list[str]:
    """The descriptions of the processes that ran, and were not in a cache, by what Pants printed."""
    return re.findall(r"\[INFO\] Completed: (.*)", printed)


def files_of(image: str) -> list[str]:
    """What is written for the image NAME.elf: `image` is its path without the suffix."""
    elf = f"{image}.elf"
    return [elf, *paths_beside(elf)]


def plugin_configuration(*backends: str, plugin: str = "pants_unikernel", extra: str = "") -> str:
    """With the backends beside the plugin's, `plugin`. Without Pants' Python backend, which C needs as little, Pants starts in half of the time."""
    enabled = ", ".join(f'"{backend}"' for backend in (*backends, plugin))
    roots = ", ".join(f'"{root}"' for root in PLUGIN_SOURCE_ROOTS)
    return f"""\
[GLOBAL]
pants_version = "2.17.1"
pythonpath = [{roots}]
backend_packages = [{enabled}]
pants_subprocessdir = ".pids"

[source]
root_patterns = ["/"]

[python]
interpreter_constraints = ["CPython>=3.9,<3.15"]

[cc]
c_executable = ["gcc"]
cxx_executable = ["g++"]

[anonymous-telemetry]
enabled = false
{extra}"""
