"""Credentials for registries, from where Docker keeps them: its configuration file and its credential helpers.

Formats: https://docs.docker.com/reference/cli/docker/login/, containers-auth.json(5),
https://github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unikernel.errors import UnikernelError
from unikernel.oci.repository import Repository

PLACES = "$REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json and ~/.docker/config.json, with the credential helpers that they name"
# What Docker itself calls its registry.
_DOCKER_HUB = ("https://index.docker.io/v1/", "index.docker.io", "docker.io")
# The user name that says that the secret is an identity token.
_TOKEN_USER = "<token>"
_TIMEOUT = 60


@dataclass(frozen=True)
class Credentials:
    """User name and password, or an identity token (OAuth 2.0's refresh token). `source` is where they were found."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    source: str = ""

    @property
    def basic(self) -> str:
        """RFC 7617."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def secrets(self) -> list[str]:
        """What no message may have."""
        return [secret for secret in (self.identity_token, self.basic if self.password else "", self.password) if secret]

    def to_document(self) -> dict[str, str]:
        """As containers-auth.json(5) has it for one registry."""
        if self.identity_token:
            return {"auth": base64.b64encode(b"0:").decode(), "identitytoken": self.identity_token}
        return {"auth": self.basic}


def find_credentials(repository: Repository, environ: Mapping[str, str] | None = None) -> Credentials | None:
    """None if there are none: the registry may not ask for any. Raises UnikernelError."""
    environ = os.environ if environ is None else environ
    path = _configuration(environ)
    if path is None:
        return None
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        # Not the parser's message: it may quote.
        raise UnikernelError(f"Credentials cannot be read from {path}: {_reason(error)}.") from None
    if not isinstance(document, dict):
        raise UnikernelError(f"Credentials cannot be read from {path}: it is not a JSON object.")
    return _from_helper(document, repository, path, environ) or _from_file(document, repository, path)


def _configuration(environ: Mapping[str, str]) -> Path | None:
    """The one file that counts, as for Docker and skopeo; None if there is none."""
    if environ.get("REGISTRY_AUTH_FILE"):
        path = Path(environ["REGISTRY_AUTH_FILE"])
        if not path.is_file():
            raise UnikernelError(f"$REGISTRY_AUTH_FILE is {path}, which is no file; correct it or unset it.")
        return path
    path = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or "~").expanduser() / ".docker") / "config.json"
    return path if path.is_file() else None


def _reason(error: Exception) -> str:
    return error.strerror or "it cannot be read" if isinstance(error, OSError) else "it is not JSON"


# --- what the file itself has -------------------------------------------------------------------------------------


def _from_file(document: Mapping[str, Any], repository: Repository, path: Path) -> Credentials | None:
    entries = document.get("auths") or {}
    try:
        for key in _keys(entries, repository):
            credentials = _of_entry(entries[key], f"{path} ({key})")
            if credentials is not None:
                return credentials
    except (AttributeError, TypeError, ValueError, binascii.Error):
        raise UnikernelError(f"The entry for {repository.host} in {path} is broken: log in again, with `docker login`.") from None
    return None


def _keys(entries: Mapping[str, Any], repository: Repository) -> Iterator[str]:
    """The most specific first: skopeo's tools allow credentials of a namespace or repository."""
    parts = str(repository).split("/")
    for end in range(len(parts), 0, -1):
        name = "/".join(parts[:end])
        if name in entries:
            yield name
    for key in sorted(entries):
        # As old versions of Docker wrote it.
        scheme, separator, rest = key.rpartition("://")
        host, _, tail = rest.partition("/")
        if host in _names(repository.host) and (separator or tail) and tail.strip("/") in ("", "v1", "v2"):
            yield key


def _names(host: str) -> tuple[str, ...]:
    return _DOCKER_HUB if host in _DOCKER_HUB else (host,)


def _of_entry(entry: Mapping[str, Any], source: str) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials(identity_token=str(entry["identitytoken"]), source=source)
    if entry.get("auth"):
        decoded = base64.b64decode(entry["auth"], validate=True).decode()
        username, colon, password = decoded.partition(":")
        if not colon:
            raise ValueError
        # Docker pads with NULs.
        return Credentials(username, password.rstrip("\0"), source=source)
    if entry.get("username") and entry.get("password"):
        return Credentials(str(entry["username"]), str(entry["password"]), source=source)
    return None


# --- what a helper has --------------------------------------------------------------------------------------------


def _from_helper(document: Mapping[str, Any], repository: Repository, path: Path, environ: Mapping[str, str]) -> Credentials | None:
    helpers, store = document.get("credHelpers") or {}, document.get("credsStore") or ""
    if not isinstance(helpers, dict) or not isinstance(store, str):
        raise UnikernelError(f"Credentials cannot be read from {path}: credHelpers or credsStore is not what Docker writes.")
    names = _names(repository.host)
    helper = next((helpers[name] for name in names if helpers.get(name)), store)
    return _ask(f"docker-credential-{helper}", names[0], path, environ) if helper else None


def _ask(helper: str, server: str, path: Path, environ: Mapping[str, str]) -> Credentials | None:
    """The helpers' protocol: the server on standard input, JSON on standard output, or a message there and a status."""
    program = shutil.which(helper, path=environ.get("PATH"))
    if program is None:
        raise UnikernelError(f"{path} names the credential helper {helper}, which is not on PATH: install it or correct the file.")
    try:
        ran = subprocess.run(
            [program, "get"],
            input=server.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            timeout=_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = "it takes too long" if isinstance(error, subprocess.TimeoutExpired) else _reason(error)
        raise UnikernelError(f"The credential helper {program} does not work: {problem}.") from None
    if ran.returncode != 0:
        if b"credentials not found" in ran.stdout:
            return None
        # Its standard error, not its standard output, which is where secrets are.
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        raise UnikernelError(
            f"The credential helper {program} has failed for {server} (status {ran.returncode}){': ' + said[-1] if said else ''}; "
            f"try it with `echo {server} | {helper} get`."
        )
    try:
        answer = json.loads(ran.stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (KeyError, TypeError, ValueError):
        raise UnikernelError(f"The credential helper {program} does not answer as helpers do for {server}.") from None
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret, source=helper)
    return Credentials(username, secret, source=helper)
