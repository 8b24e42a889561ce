"""Xen's own parser of xl.cfg files (libxlutil), and what its manual says of their keys, from Debian's packages."""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unikernel.testing.debian_package import extracted

# The library's package has its version in its name.
_RELEASE = "bookworm"
_LIBRARY = "libxlutil.so.4.17"
_PACKAGES = (
    "libxenmisc4.17",
    # What it is linked with, and a small machine does not have.
    *(
        "libxencall1",
        "libxendevicemodel1",
        "libxenevtchn1",
        "libxenforeignmemory1",
        "libxengnttab1",
        "libxenhypfs1",
        "libxenstore4",
    ),
    *("libxentoolcore1", "libxentoollog1", "libyajl2"),
    # The manual.
    "xen-utils-common",
)


def xl_settings(config: Path) -> dict[str, Any]:
    """The file as `xl create` reads it: numbers, texts, and lists of texts, by those keys that xl.cfg(5) has. Raises ValueError with the
    parser's own words for one that it refuses.
    """
    libraries = _files() / "usr/lib/x86_64-linux-gnu"
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("xl_parser.py")), _LIBRARY, str(config), *sorted(xl_keys())],
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    if result.returncode != 0:
        raise ValueError(result.stderr)
    settings: dict[str, Any] = json.loads(result.stdout)
    return settings


@functools.cache
def xl_keys() -> frozenset[str]:
    """Those of xl.cfg(5): what a paragraph begins with."""
    return frozenset(_items("xl.cfg.5", r"IP \"\\fB([a-z][a-z0-9_]*)="))


@functools.cache
def vif_keys() -> frozenset[str]:
    """Those of xl-network-configuration(5): its sections."""
    return frozenset(_items("xl-network-configuration.5", r'^\.SS "([a-z]+)"'))


def _items(manual: str, expression: str) -> Iterable[str]:
    text = gzip.decompress((_files() / f"usr/share/man/man5/{manual}.gz").read_bytes()).decode()
    return re.findall(expression, text, re.MULTILINE)


def _files() -> Path:
    return extracted(*_PACKAGES, release=_RELEASE)
