"""Programs from Debian's packages, for tests: downloaded and unpacked, not installed."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpacked_package(package: str, release: str) -> Path:
    """A new directory with what is in the package, from the mirror of Debian that this machine uses."""
    directory = Path(tempfile.mkdtemp(prefix=f"{package}-"))
    for name in ("lists/partial", "cache/archives/partial", "package"):
        (directory / name).mkdir(parents=True)
    sources = directory / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {release} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
    }
    apt_get = ["apt-get", "--quiet=2", *(f"--option={name}={value}" for name, value in options.items())]
    subprocess.run([*apt_get, "update"], check=True)
    subprocess.run([*apt_get, "download", package], cwd=directory, check=True)
    [archive] = directory.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "--extract", str(archive), str(directory / "package")], check=True)
    return directory / "package"


def _mirror() -> str:
    """The archive of the running release: not that of its security updates."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL) $(COMPONENT)"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    mirrors = {line.split()[0] for line in printed.splitlines() if line.split()[1:] == ["Debian", "main"]}
    return min(mirrors)
