"""Programs and files that Debian has and this machine may not: from its packages, without installing anything."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@functools.cache
def program(name: str, package: str = "", release: str = "") -> str:
    """The path of the program: the one on PATH, or that of the package (of the same name by default) of a Debian release (the running one
    by default), downloaded once in this process and removed when it ends.
    """
    return shutil.which(name) or str(extracted(package or name, release=release) / "usr/bin" / name)


@functools.cache
def extracted(*packages: str, release: str = "", dependencies: bool = False) -> Path:
    """A directory with the files of the packages of a Debian release (the running one by default), downloaded once in this process, from the
    mirror of Debian that this machine uses, and removed when it ends. With `dependencies`, what they depend on and this machine lacks is
    there too.
    """
    directory = _make_directory(packages[0])
    apt_get = _apt_get(directory, release)
    names = {*packages, *(_missing_dependencies(apt_get, packages) if dependencies else ())}
    return _download(apt_get, names, directory)


@functools.cache
def closure(*packages: str, release: str) -> Path:
    """Like `extracted`, with all that the packages depend on, the C library among it: what is in it runs with its own loader
    (ld.so(8), --library-path) on a machine of any release.
    """
    directory = _make_directory(packages[0])
    # Of a machine on which nothing is installed.
    status = directory / "status"
    status.touch()
    apt_get = [*_apt_get(directory, release), f"--option=Dir::State::status={status}"]
    return _download(apt_get, _missing_dependencies(apt_get, packages), directory)


def _make_directory(package: str) -> Path:
    """Other users may read it: there are servers that do not run as root."""
    directory = Path(tempfile.mkdtemp(prefix=f"{package}-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)
    for name in ("lists/partial", "cache/archives/partial", "package"):
        (directory / name).mkdir(parents=True)
    return directory


def _apt_get(directory: Path, release: str) -> list[str]:
    """With the index of a release, by the mirror that this machine uses, and nothing of this machine's own settings."""
    sources = directory / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {mirror()} {release or _running_release()} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
        # A mirror may be a copy of some weeks ago; sid's index is good for one.
        "Acquire::Check-Valid-Until": "false",
    }
    apt_get = ["apt-get", "--quiet=2", *(f"--option={name}={value}" for name, value in options.items())]
    subprocess.run([*apt_get, "update"], check=True)
    return apt_get


def _download(apt_get: Sequence[str], packages: Iterable[str], directory: Path) -> Path:
    names = sorted(packages)
    subprocess.run([*apt_get, "download", *names], cwd=directory, check=True)
    for package in names:
        [archive] = directory.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(directory / "package")], check=True)
    return directory / "package"


def _missing_dependencies(apt_get: Sequence[str], packages: Sequence[str]) -> list[str]:
    command = [*apt_get, "--simulate", "--no-install-recommends", "install", *packages]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    return [line.split()[1] for line in printed.splitlines() if line.startswith("Inst ")]


def mirror() -> str:
    """Return the address of the archive that apt uses here: the release's own, not that of its security updates."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL) $(COMPONENT)"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    mirrors = {line.split()[0] for line in printed.splitlines() if line.split()[1:] == ["Debian", "main"]}
    return min(mirrors)


def _running_release() -> str:
    """Its code name: os-release(5)."""
    lines = Path("/etc/os-release").read_text().splitlines()
    [name] = [line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")]
    return name
