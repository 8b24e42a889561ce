"""Pants in a virtual environment of its own, the pex tool that it starts, and the settings that `./pants` reads."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pip_settings
from commands import CommandFailed, run
from errors import BootstrapError
from progress import Progress
from python39 import is_found_by_pants

# A change here installs Pants anew where it is installed.
_RECIPE = "3"
_PEX_VERSION = "v2.1.137"


class PantsEnvironment:
    """Everything of Pants that is below the directory `state`. `installed` tells for what it was made, and is written last.

    What it runs itself is below `plain`, which may be the same: see `plain_directory`.
    """

    def __init__(self, state: Path, *, plain: Path, pip_lock: Path, lock: Path, log: Path) -> None:
        self._state = state
        self._plain = plain
        self._venv = plain / "venv"
        self._pip_lock = pip_lock
        self._lock = lock
        self._log = log

    def is_installed(self, python: Path) -> bool:
        """Return whether Pants is there, made by this interpreter at this place from these requirements."""
        return (
            _text(self._state / "installed") == self._wanted(python)
            and (self._venv / "bin/pants").is_file()
            and (self._venv / "bin/pants-client").is_file()
            and (self._state / "venv").resolve() == self._venv.resolve()
            and self._pex_file().is_file()
        )

    def install(self, python: Path, progress: Progress) -> None:
        """Install Pants anew; raise BootstrapError when the package index does not give what it needs."""
        (self._state / "installed").unlink(missing_ok=True)
        if _text(self._venv / "installed") != self._wanted(python):
            self._install_venv(python, progress)
        with progress.step("packing the pex command line tool"):
            self._pack_pex()
        self._link_venv()
        (self._state / "installed").write_text(self._wanted(python))

    def _link_venv(self) -> None:
        """Have `./pants` find Pants below `state`."""
        link = self._state / "venv"
        if link != self._venv:
            if link.is_dir() and not link.is_symlink():
                shutil.rmtree(link)
            link.unlink(missing_ok=True)
            link.symlink_to(self._venv)

    def _install_venv(self, python: Path, progress: Progress) -> None:
        shutil.rmtree(self._venv, ignore_errors=True)
        count = len(re.findall(r"^[\w.-]+(?:\[.*\])?==", self._lock.read_text(), re.MULTILINE))
        with progress.step(f"installing Pants ({count} packages, about 60 MB to download)"):
            self._run(python, "-m", "venv", self._venv)
            # Debian 11's is too old for some of today's wheels.
            self._pip_install(self._pip_lock, progress, 0)
            self._pip_install(self._lock, progress, count)
        self._link_client()
        (self._venv / "installed").write_text(self._wanted(python))

    def _link_client(self) -> None:
        """Give Pants' client in Rust, which its wheel has without the mode of a program, a place beside the one in Python."""
        [client] = self._venv.glob("lib/python*/site-packages/pants/bin/native_client")
        client.chmod(0o755)
        (self._venv / "bin/pants-client").symlink_to(client)

    def write_settings(self, python: Path) -> None:
        """Write the environment variables that `./pants` sets, which depend on the machine's pip and interpreters."""
        variables = json.loads((self._state / "pex.json").read_text())
        own_pip = self._venv / "bin/python"
        configuration = pip_settings.configuration_of(own_pip)
        bundle = pip_settings.certificates(configuration)
        if bundle is not None:
            # PEX takes them from Pants, and any other pip from the environment.
            variables["PANTS_CA_CERTS_PATH"] = str(bundle)
        handed_on = [f"PIP_CERT={bundle}"] if bundle is not None else []
        if "constraint" in configuration:
            # The pip inside PEX cannot download what a lockfile names where there are constraints (an AssertionError ends it).
            handed_on.append("PIP_CONFIG_FILE=/dev/null")
        if handed_on:
            variables["PANTS_SUBPROCESS_ENVIRONMENT_ENV_VARS"] = f"+{handed_on!r}"
        if not is_found_by_pants(python):
            variables["PANTS_PYTHON_BOOTSTRAP_SEARCH_PATH"] = f"+{[str(python.parent)]!r}"
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())]
        settings = self._state / "environment"
        if _text(settings) != "".join(lines):
            settings.write_text("".join(lines))

    def _wanted(self, python: Path) -> str:
        parts = [_RECIPE, str(python), str(self._state.absolute())]
        parts += [hashlib.sha256(lock.read_bytes()).hexdigest() for lock in (self._pip_lock, self._lock)]
        return "\n".join(parts) + "\n"

    def _run(self, *argv: object) -> None:
        try:
            run([str(word) for word in argv], log=self._log)
        except CommandFailed as failure:
            raise BootstrapError(f"{argv[0]} failed: {failure.reason} The log is {self._log}.") from failure

    def _pip_install(self, lock: Path, progress: Progress, count: int) -> None:
        collected = 0

        def read(line: str) -> None:
            nonlocal collected
            if line.startswith("Collecting "):
                collected += 1
                progress.detail(f"{min(collected, count)} of {count} packages")
            elif line.startswith("Installing collected packages"):
                progress.detail("unpacking")

        options = ["--disable-pip-version-check", "--require-hashes", "--no-deps", "--progress-bar", "off"]
        try:
            run(
                [str(self._venv / "bin/python"), "-m", "pip", "install", *options, "-r", str(lock)],
                log=self._log,
                environment=pip_settings.environment(),
                on_line=read if count else None,
            )
        except CommandFailed as failure:
            raise pip_settings.install_error(failure, lock, self._log) from failure

    def _pack_pex(self) -> None:
        """Pants runs PEX as a single file of its own. PyPI's pex is the same program: pack it into such a file."""
        for old in self._plain.glob("pex-*"):
            old.unlink()
        requirements, packed = self._state / "requirements-of-pex.txt", self._state / "pex"
        requirement = re.search(r"^pex==.*\n(?:[ \t].*\n)*", self._lock.read_text(), re.MULTILINE)
        if requirement is None:
            raise BootstrapError(f"{self._lock} has no pex. Add it to {self._lock.with_suffix('.txt')} and lock anew.")
        requirements.write_text(requirement[0])
        command = [self._venv / "bin/pex", "--requirement", requirements, "--no-transitive", "--no-emit-warnings"]
        command += ["--console-script", "pex", "--interpreter-constraint", "CPython>=3.7,<4"]
        command += ["--python-path", self._venv / "bin", "--disable-cache", "--output-file", packed]
        configuration = pip_settings.configuration_of(self._venv / "bin/python")
        bundle = pip_settings.certificates(configuration)
        # It isolates its pip from the machine's settings.
        command += ["--cert", bundle] if bundle is not None else []
        command += ["--use-pip-config"] if "index-url" in configuration else []
        try:
            run([str(word) for word in command], log=self._log, environment=pip_settings.environment())
        except CommandFailed as failure:
            raise pip_settings.install_error(failure, requirements, self._log) from failure
        sha256 = hashlib.sha256(packed.read_bytes()).hexdigest()
        named = self._plain / f"pex-{sha256[:16]}"
        shutil.move(packed, named)
        variables = {
            "PANTS_PEX_CLI_URL_TEMPLATE": f"file://{named}",
            "PANTS_PEX_CLI_KNOWN_VERSIONS": f"{[f'{_PEX_VERSION}|linux_x86_64|{sha256}|{named.stat().st_size}']!r}",
        }
        (self._state / "pex.json").write_text(json.dumps(variables))

    def _pex_file(self) -> Path:
        variables = json.loads(_text(self._state / "pex.json") or "{}")
        return Path(variables.get("PANTS_PEX_CLI_URL_TEMPLATE", "")[len("file://") :])


def _text(path: Path) -> str:
    """Return the text of a file, nothing if it is not there."""
    try:
        return path.read_text()
    except OSError:
        return ""
