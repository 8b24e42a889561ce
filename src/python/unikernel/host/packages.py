"""Which of the distribution's packages brought a file of this machine: what an SBOM says of native libraries.

Asked of dpkg. On a machine without it, or for a file that no package brought, there is no answer, and an SBOM says so.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packageurl import PackageURL

_FIELDS = ("binary:Package", "Package", "Version", "Architecture", "source:Package", "source:Version")
_FORMAT = "\\t".join("${" + field + "}" for field in _FIELDS) + "\\n"
# Directories that are links into /usr since distributions merged them; packages may list their files by either name.
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")


@dataclass(frozen=True)
class Package:
    """`distribution` is the `ID` of os-release(5), such as "debian", and `release` its `VERSION_ID`."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    distribution: str
    release: str

    @property
    def purl(self) -> str:
        """github.com/package-url/purl-spec, type `deb`."""
        qualifiers = {"arch": self.architecture}
        if self.release:
            qualifiers["distro"] = f"{self.distribution}-{self.release}"
        return PackageURL("deb", self.distribution, self.name, self.version, qualifiers).to_string()


def packages_of(paths: Iterable[str], os_release: Path = Path("/etc/os-release")) -> dict[str, Package]:
    """By path, for those that a package brought. Paths are absolute, with links resolved."""
    program = shutil.which("dpkg-query")
    if program is None:
        return {}
    names = {name: path for path in paths for name in _names(path)}
    owners = _owners(_output([program, "--search", "--", *sorted(names)]), names) if names else {}
    if not owners:
        return {}
    release = _os_release(os_release)
    shown = _output([program, "--show", f"--showformat={_FORMAT}", "--", *sorted(set(owners.values()))])
    packages = {}
    for line in shown.splitlines():
        facts = line.split("\t")
        if len(facts) == len(_FIELDS):
            binary, name, version, architecture, source, source_version = facts
            distribution, number = release.get("ID", "debian"), release.get("VERSION_ID", "")
            packages[binary] = Package(name, version, architecture, source, source_version, distribution, number)
    return {path: packages[owner] for path, owner in sorted(owners.items()) if owner in packages}


def _names(path: str) -> list[str]:
    """What a package may call a file: with `/usr` and without, where that is the same."""
    inside = path[len("/usr/") :] if path.startswith("/usr/") else path[1:]
    return [f"/{inside}", f"/usr/{inside}"] if inside.split("/")[0] in _MERGED else [path]


def _owners(printed: str, names: Mapping[str, str]) -> dict[str, str]:
    """From path to package, of what `dpkg-query --search` prints: "package[, package]: path"."""
    owners: dict[str, str] = {}
    for line in printed.splitlines():
        packages, separator, name = line.partition(": ")
        if separator and name in names and not packages.startswith("diversion "):
            owners.setdefault(names[name], packages.split(", ")[0])
    return owners


def _output(command: list[str]) -> str:
    # Its exit status says only that some of the files are no package's.
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", errors="replace").stdout


def _os_release(path: Path) -> dict[str, str]:
    """os-release(5): shell assignments, of which only quotes matter here."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
