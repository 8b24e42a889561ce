from __future__ import annotations

import os
import subprocess
from pathlib import Path

from unikernel.host.packages import packages_of


def _libc() -> str:
    """The path of the C library that this process has."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return os.path.realpath(next(line.split()[-1] for line in lines if "/libc.so.6" in line or "/libc-2" in line))


def test_the_c_library_is_a_package_of_this_machine(tmp_path: Path) -> None:
    own = tmp_path / "libown.so"
    own.touch()
    found = packages_of([_libc(), str(own)])
    assert list(found) == [_libc()]
    package = found[_libc()]
    status = subprocess.run(["dpkg", "--status", package.name], stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout
    assert f"Version: {package.version}\n" in status
    assert package.source == "glibc" and package.purl.startswith("pkg:deb/")


def test_nothing_is_asked_for_nothing() -> None:
    assert packages_of([]) == {}
    assert packages_of(["/nowhere/at/all"]) == {}
