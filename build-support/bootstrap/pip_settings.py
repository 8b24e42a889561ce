"""What pip reaches its index with on this machine: certificates, and no constraints."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from commands import CommandFailed
from errors import BootstrapError, full_disk_error

# Debian's bundle of certificates has the machine's own (of a proxy, say), which no package of PyPI knows.
_SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_NO_NETWORK = ("NewConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "Failed to establish a new connection")


def certificates(pip_configuration: Mapping[str, str]) -> Optional[Path]:
    """Return the bundle of certificates to trust: that of pip's configuration, or the machine's."""
    named = os.environ.get("PIP_CERT") or pip_configuration.get("cert") or os.environ.get("SSL_CERT_FILE")
    if named:
        return Path(named)
    return _SYSTEM_CERTIFICATES if _SYSTEM_CERTIFICATES.is_file() else None


def environment() -> dict[str, str]:
    """Return the environment that any pip gets."""
    bundle = certificates({})
    return {} if bundle is None else {"PIP_CERT": str(bundle)}


def configuration_of(python: Path) -> dict[str, str]:
    """Return pip's configuration on this machine: option to value, without the environment's certificates."""
    result = subprocess.run(
        [python, "-m", "pip", "config", "list"],
        env={key: value for key, value in os.environ.items() if key not in ("PIP_CONSTRAINT", "PIP_CERT")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    )
    found = re.findall(r"^[\w:-]*\.([\w-]+)='(.*)'$", result.stdout, re.MULTILINE)
    return dict(found)


def install_error(failure: CommandFailed, lock: Path, log: Path) -> BootstrapError:
    """Return the user-fixable error for an installation that failed."""
    if failure.has("No space left on device"):
        return full_disk_error(log.parent)
    if failure.has("CERTIFICATE_VERIFY_FAILED", "SSLError"):
        return BootstrapError(
            "pip does not trust the package index: its certificate cannot be verified. Set PIP_CERT to the file with the "
            f"certificates to trust, then run ./bootstrap again. The log is {log}."
        )
    if failure.has("ProxyError", "Tunnel connection failed"):
        return BootstrapError(
            "pip cannot pass the proxy. Set https_proxy to an address that lets it through, then run ./bootstrap again. "
            f"The log is {log}."
        )
    if failure.has(*_NO_NETWORK):
        return BootstrapError(
            "pip cannot reach its package index. Check the network, the proxy (https_proxy) and the index (PIP_INDEX_URL), then "
            f"run ./bootstrap again; it goes on from here. The log is {log}."
        )
    return BootstrapError(f"pip could not install {lock.name}: {failure.reason} The log is {log}.")
