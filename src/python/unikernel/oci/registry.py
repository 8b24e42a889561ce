"""A registry's API, as far as skopeo is of no help: what a tag points at, setting it, and whether there is a referrers API.

skopeo sends blobs and image manifests. It cannot do this: up to 1.9 it refuses to send an index that says its media type
(`--preserve-digests` takes it for one to be converted), it does not say how a registry has answered, and it does not know referrers.
PyPI's `oras` would be the library for it; it has no identity tokens, takes a 403 for a question of tokens, is silent for two minutes
before it says that nothing answers, and trusts other certificates than skopeo. What is left are requests with small documents, for
which the standard library is enough.

Specification: https://github.com/opencontainers/distribution-spec (v1.1); tokens: https://distribution.github.io/distribution/spec/auth/.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, NoReturn

from unikernel import __version__
from unikernel.errors import UnikernelError
from unikernel.oci.credentials import PLACES, Credentials
from unikernel.oci.layout import INDEX, MANIFEST
from unikernel.oci.repository import Repository

RETRIES = 3
_TIMEOUT = 60
_PROBE_TIMEOUT = 5
# What a proxy or a registry that is busy or restarted answers.
_TEMPORARY = frozenset((408, 429, 500, 502, 503, 504))
# The class for a time-out has its own name before Python 3.10.
_TEMPORARY_ERRORS = (BrokenPipeError, ConnectionResetError, http.client.HTTPException, socket.timeout)
# Seconds.
_LONGEST_WAIT = 30
_MAXIMUM_SIZE = 16 << 20
_DOCKER_TYPES = ("manifest.v2", "manifest.list.v2")
_ACCEPT = ", ".join((MANIFEST, INDEX, *(f"application/vnd.docker.distribution.{name}+json" for name in _DOCKER_TYPES)))
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
# Where skopeo looks for certificates of a registry: containers-certs.d(5).
_CERTIFICATES = ("~/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")


@dataclass(frozen=True)
class Manifest:
    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


@dataclass(frozen=True)
class _Response:
    """Names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RefusedError(UnikernelError):
    """The registry refuses a manifest: a status of 4xx that is not about who asks."""


class RegistryClient:
    """Of one repository. All methods raise UnikernelError, whose message names the repository and has no secret in it."""

    def __init__(self, repository: Repository, credentials: Credentials | None) -> None:
        self.repository = repository
        self._credentials = credentials
        self._authorization = ""
        self._opener = _opener(repository)
        self._base = ""

    def connect(self) -> None:
        """Finds out how the registry is spoken to: for one on this machine, plain HTTP does, as for Docker."""
        schemes = ("https", "http") if self.repository.is_local else ("https",)
        for scheme in schemes:
            self._base = f"{scheme}://{self.repository.api_host}/v2/"
            try:
                response = self._connect(last=scheme == schemes[-1])
            except _NotSpokenError:
                if scheme == schemes[-1]:
                    raise
                continue
            if response.status != 200:
                self._fail(response, "cannot be asked for: the host does not answer as a registry does")
            return

    def _connect(self, last: bool) -> _Response:
        # What speaks no TLS may wait for the rest of a line.
        return self._request("GET", "") if last else self._request("GET", "", retries=0, timeout=_PROBE_TIMEOUT)

    def manifest(self, reference: str) -> Manifest | None:
        """Of a tag or digest; None if there is none."""
        response = self._request("GET", f"{self.repository.path}/manifests/{reference}", {"Accept": _ACCEPT})
        if response.status == 404:
            return None
        if response.status != 200:
            self._fail(response, f"does not give the manifest of {reference}")
        found = Manifest(response.headers.get("content-type", "").partition(";")[0], response.body)
        if ":" in reference and found.digest != reference:
            raise UnikernelError(
                f"{self.repository} gives other bytes for {reference}: they have the digest {found.digest}. A registry or a proxy "
                "before it changes manifests; signatures do not hold there."
            )
        return found

    def put_manifest(self, reference: str, manifest: Manifest) -> None:
        """Raises RefusedError too: tags may be immutable."""
        path = f"{self.repository.path}/manifests/{reference}"
        response = self._request("PUT", path, {"Content-Type": manifest.media_type}, manifest.content)
        if response.status == 201:
            return
        if response.status in (400, 403, 405, 409, 412, 422):
            raise RefusedError(self._hide(f"HTTP {response.status}{_said(response)}"))
        self._fail(response, f"does not take the manifest {reference}")

    def has_referrers_api(self, digest: str) -> bool:
        response = self._request("GET", f"{self.repository.path}/referrers/{digest}", {"Accept": INDEX})
        return response.status == 200 and response.headers.get("content-type", "").partition(";")[0] == INDEX

    # --- requests ---

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        retries: int = RETRIES,
        timeout: int = _TIMEOUT,
    ) -> _Response:
        def send() -> _Response:
            return self._send(method, self._base + path, headers or {}, body, self._authorization, retries, timeout)

        response = send()
        if response.status == 401:
            # Tokens are asked for when they are needed, and again when one is too old.
            self._authorization = self._authorize(response)
            if self._authorization:
                response = send()
            if response.status == 401:
                self._fail_login(response)
        return response

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        authorization: str,
        retries: int = RETRIES,
        timeout: int = _TIMEOUT,
    ) -> _Response:
        request = urllib.request.Request(url, body, {"User-Agent": f"unikernel/{__version__}", **headers}, method=method)
        if authorization:
            # Not for where a registry redirects to.
            request.add_unredirected_header("Authorization", authorization)
        for attempt in range(retries):
            try:
                response = self._open(request, timeout)
            except _TEMPORARY_ERRORS:
                response = _Response(0, {}, b"")
            if response.status not in (0, *_TEMPORARY):
                return response
            time.sleep(_wait(response, attempt))
        try:
            return self._open(request, timeout)
        except _TEMPORARY_ERRORS as error:
            raise _NotSpokenError(f"{self.repository.host} does not answer: {type(error).__name__} {error}.") from None

    def _open(self, request: urllib.request.Request, timeout: int) -> _Response:
        """One request. Raises `_TEMPORARY_ERRORS` too."""
        try:
            with self._opener.open(request, timeout=timeout) as stream:
                return _Response(stream.status, _lower(stream.headers), stream.read(_MAXIMUM_SIZE))
        except urllib.error.HTTPError as error:
            with error:
                return _Response(error.code, _lower(error.headers), error.read(_MAXIMUM_SIZE))
        except OSError as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, _TEMPORARY_ERRORS):
                raise reason from None
            raise _NotSpokenError(self._unreachable(reason)) from None

    def _unreachable(self, reason: object) -> str:
        host = self.repository.host
        if isinstance(reason, socket.gaierror):
            return f"The registry {host} is not known ({reason.strerror}): correct its name, or this machine's DNS."
        if isinstance(reason, ConnectionRefusedError):
            return f"Nothing listens at {host} (connection refused): start the registry or correct its address."
        if isinstance(reason, ssl.SSLCertVerificationError):
            return (
                f"The TLS certificate of {host} is not trusted ({reason.verify_message}): put the certificate of its authority "
                f"into /etc/docker/certs.d/{host}/ca.crt or among this machine's."
            )
        if isinstance(reason, ssl.SSLError):
            return f"{host} does not speak TLS ({reason.reason}): plain HTTP is spoken with registries on localhost only."
        return f"The registry {host} cannot be reached: {reason}."

    # --- who asks ---

    def _authorize(self, response: _Response) -> str:
        """For the Authorization header; "" if there is nothing to say."""
        scheme, _, rest = response.headers.get("www-authenticate", "").partition(" ")
        if scheme.lower() == "basic":
            return f"Basic {self._credentials.basic}" if self._credentials and self._credentials.password else ""
        if scheme.lower() != "bearer":
            return ""
        challenge = dict(_PARAMETER.findall(rest))
        realm = challenge.get("realm", "")
        if not realm.startswith("https://") and not (realm.startswith("http://") and self.repository.is_local):
            raise UnikernelError(
                f"{self.repository.host} sends logins to {realm!r}, which is no https address: nothing is sent there."
            )
        token = self._token(realm, challenge.get("service", ""))
        return f"Bearer {token}" if token else ""

    def _token(self, realm: str, service: str) -> str:
        question = {"service": service, "scope": f"repository:{self.repository.path}:pull,push"}
        credentials = self._credentials
        if credentials and credentials.identity_token:
            question.update(grant_type="refresh_token", client_id="unikernel", refresh_token=credentials.identity_token)
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._send("POST", realm, kind, urllib.parse.urlencode(question).encode(), "")
        else:
            separator = "&" if urllib.parse.urlsplit(realm).query else "?"
            basic = f"Basic {credentials.basic}" if credentials else ""
            response = self._send("GET", realm + separator + urllib.parse.urlencode(question), {}, None, basic)
        if response.status in (400, 401, 403):
            self._fail_login(response)
        try:
            answer = json.loads(response.body)
            token = answer.get("token") or answer.get("access_token") or ""
        except (AttributeError, ValueError):
            token = ""
        if response.status != 200 or not isinstance(token, str) or not token:
            self._fail(response, "gives no token")
        return token

    # --- what is said of failures ---

    def _fail_login(self, response: _Response) -> NoReturn:
        found = f"Those from {self._credentials.source} do not do" if self._credentials else "There are none"
        raise UnikernelError(
            self._hide(
                f"{self.repository} asks for credentials (HTTP {response.status}{_said(response)}). {found}; they are looked for in "
                f"{PLACES}. Log in with `docker login {self.repository.host}`."
            )
        )

    def _fail(self, response: _Response, problem: str) -> NoReturn:
        advice = " The account may not push there: give it the right to, or use another." if response.status == 403 else ""
        raise UnikernelError(self._hide(f"{self.repository} {problem} (HTTP {response.status}{_said(response)}).{advice}"))

    def _hide(self, text: str) -> str:
        return hide(text, self._credentials)


class _NotSpokenError(UnikernelError):
    """No answer: another scheme may have one."""


def hide(text: str, credentials: Credentials | None) -> str:
    """`text` without secrets: what an address has after "?" may be one too."""
    for secret in credentials.secrets() if credentials else ():
        text = text.replace(secret, "***")
    return re.sub(r"(https?://)(?:[^\s/\"@]*@)?([^\s\"?]+)\?[^\s\"]*", r"\1\2?...", text)


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _wait(response: _Response, attempt: int) -> int:
    """Seconds."""
    asked = response.headers.get("retry-after", "")
    return min(int(asked), _LONGEST_WAIT) if asked.isdecimal() else 1 << attempt


def _said(response: _Response) -> str:
    """The registry's own words, with a colon before them."""
    try:
        errors: list[Any] = json.loads(response.body)["errors"]
        words = "; ".join(str(error.get("message") or error["code"]) for error in errors)
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    return f": {words[:500]}" if words else ""


# --- connections --------------------------------------------------------------------------------------------------


def _opener(repository: Repository) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=_tls(repository))]
    if repository.is_local:
        # No proxy stands before this machine, whatever the environment says.
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _tls(repository: Repository) -> ssl.SSLContext:
    """Trusts what skopeo trusts: the machine's authorities ($SSL_CERT_FILE counts) and those that are there for this registry."""
    context = ssl.create_default_context()
    # Python's default since 3.13: it refuses what many private authorities sign, which skopeo takes.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if repository.is_local:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    directories = (Path(os.path.expanduser(parent)) / repository.host for parent in _CERTIFICATES)
    directory = next((directory for directory in directories if directory.is_dir()), None)
    if directory is None:
        return context
    try:
        for authority in sorted(directory.glob("*.crt")):
            context.load_verify_locations(authority)
        for certificate in sorted(directory.glob("*.cert")):
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    except (OSError, ssl.SSLError) as error:
        raise UnikernelError(f"The certificates in {directory} cannot be used: {error}.") from None
    return context
