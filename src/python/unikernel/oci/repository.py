"""Names of repositories and tags, as registries take them.

Grammar: https://github.com/opencontainers/distribution-spec (v1.1), "Pulling manifests"; for hosts that of Docker's references.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from unikernel.errors import UnikernelError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# What signatures and referrers of an image go by.
_COMPANION = re.compile(r"sha256-[0-9a-f]{64}(?:\.\w+)?")
# Many clients allow no more for host and path together.
_MAXIMUM_LENGTH = 255
_DOCKER_HUB = "docker.io"


@dataclass(frozen=True)
class Repository:
    """`host` has the port, if it has one; `path` is the name in the registry."""

    host: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Repository:
        """From HOST[:PORT]/PATH. Raises UnikernelError."""
        host, slash, path = text.partition("/")
        problem = _problem(host, path if slash else None, text)
        if problem:
            raise UnikernelError(f"{text!r} names no repository: {problem}. Write HOST[:PORT]/REPOSITORY, without a tag.")
        if host == _DOCKER_HUB and "/" not in path:
            path = f"library/{path}"
        return cls(host, path)

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"

    @property
    def api_host(self) -> str:
        """Where the API is."""
        return "registry-1.docker.io" if self.host == _DOCKER_HUB else self.host

    @property
    def is_local(self) -> bool:
        """On this machine, by its name alone: Docker's rule for where plain HTTP is spoken."""
        match = _HOST.fullmatch(self.host)
        name = match["name"].strip("[]").lower() if match else ""
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"


def _problem(host: str, path: str | None, text: str) -> str:
    match = _HOST.fullmatch(host)
    if match is None or (match["port"] and not 0 < int(match["port"]) < 1 << 16):
        return f"{host!r} is no host"
    if match["name"].startswith("["):
        try:
            ipaddress.IPv6Address(match["name"][1:-1])
        except ValueError:
            return f"{host!r} is no host"
    if path is None or not (match["port"] or "." in host or host.startswith("[") or host == "localhost"):
        return "it has no host, which has a dot or a port or is localhost"
    if not _PATH.fullmatch(path):
        return f"{path!r} is not made of a-z and 0-9, with single '.', '_' and '-' or '__' between them, and '/'"
    if len(text) > _MAXIMUM_LENGTH:
        return f"it is longer than {_MAXIMUM_LENGTH} characters"
    return ""


def check_tags(tags: Sequence[str]) -> None:
    """Raises UnikernelError."""
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise UnikernelError(
                f"{tag!r} is no tag: write up to 128 of A-Z, a-z, 0-9, '_', '.' and '-', of which '.' and '-' are not the first."
            )
        if _COMPANION.fullmatch(tag):
            raise UnikernelError(f"{tag!r} is what signatures are found by; use another tag.")
