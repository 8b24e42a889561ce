"""Programs and files that Debian has and this machine may not: from its packages, without installing anything."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
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
    directory = Path(tempfile.mkdtemp(prefix=f"{packages[0]}-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    for name in ("lists/partial", "cache/archives/partial", "package"):
        (directory / name).mkdir(parents=True)
    sources = directory / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {release or _running_release()} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
    }
    apt_get = ["apt-get", "--quiet=2", *(f"--option={name}={value}" for name, value in options.items())]
    subprocess.run([*apt_get, "update"], check=True)
    names = sorted({*packages, *(_missing_dependencies(apt_get, packages) if dependencies else ())})
    subprocess.run([*apt_get, "download", *names], cwd=directory, check=True)
    for package in names:
        [archive] = directory.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(directory / "package")], check=True)
    return directory / "package"


def _missing_dependencies(apt_get: Sequence[str], packages: Sequence[str]) -> list[str]:
    command = [*apt_get, "--simulate", "--no-install-recommends", "install", *packages]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    return [line.split()[1] for line in printed.splitlines() if line.startswith("Inst ")]


def _mirror() -> str:
    """The archive of the running release: not that of its security updates."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL) $(COMPONENT)"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    mirrors = {line.split()[0] for line in printed.splitlines() if line.split()[1:] == ["Debian", "main"]}
    return min(mirrors)


def _running_release() -> str:
    """Its code name: os-release(5)."""
    lines = Path("/etc/os-release").read_text().splitlines()
    [name] = [line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")]
    return name
