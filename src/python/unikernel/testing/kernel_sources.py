"""The kernel sources of the series that this project supports, from this machine or from Debian's packages."""

from __future__ import annotations

from pathlib import Path

from unikernel.testing.debian_package import extracted

# The Debian release whose packages have the source of a series.
RELEASES = {"6.1": "bookworm", "6.12": "trixie"}


def kernel_source(series: str) -> Path:
    """Return the path of a series' tarball: the one that is installed, or that of Debian's package, downloaded."""
    name = f"linux-source-{series}"
    installed = Path(f"/usr/src/{name}.tar.xz")
    if installed.exists():
        return installed
    return extracted(name, release=RELEASES[series]) / "usr/src" / installed.name
