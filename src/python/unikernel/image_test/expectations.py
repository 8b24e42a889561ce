"""What is expected of an image when it boots: one document in JSON, with the names of the fields in a BUILD file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

from unikernel.errors import UnikernelError
from unikernel.image.spec import Port, parse_size
from unikernel.library_os.command_line import render_command_line
from unikernel.library_os.description import ExitReport, LibraryOs

DEFAULT_TIMEOUT = 60
LARGEST_STATUS = 255
# RFC 9110: a method and a field's name are tokens.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What http.client refuses in a request's line.
_PATH = re.compile(r"/[!-~]*")


class NotAsExpectedError(Exception):
    """The message says what was expected and what came."""


@dataclass(frozen=True)
class HttpProbe:
    """A request, and what is expected of its answer. `headers` and `send_headers` are (name, expression) and (name, value) pairs, in the
    order of their names; `body` is an expression. Without a port, it is the image's first one.
    """

    method: str = "GET"
    path: str = "/"
    port: Optional[int] = None
    send: str = ""
    send_headers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    body: Optional[str] = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        return f"http {self.method} {self.path} on port {self.port}: {self.status}"

    @classmethod
    def parse(cls, document: Any) -> HttpProbe:
        """Raises ValueError."""
        entry = _entry(cls, document)
        for name in ("method", "path", "send"):
            _check_type(entry, name, str, "text")
        _check_expressions("body", [entry["body"]] if entry.get("body") is not None else [])
        for name in ("headers", "send_headers"):
            entry[name] = _pairs(name, entry.get(name, {}))
        _check_expressions("headers", [expression for _, expression in entry["headers"]])
        _check_port(entry)
        _check_type(entry, "status", int, "a number")
        probe = cls(**entry)
        if not _TOKEN.fullmatch(probe.method):
            raise ValueError(f"{probe.method!r} is no method of HTTP")
        if not _PATH.fullmatch(probe.path):
            raise ValueError(f"the path {probe.path!r} does not start with a slash, or has something that a URL has to encode")
        if not 100 <= probe.status <= 599:
            raise ValueError(f"{probe.status} is no status of HTTP: they are 100 to 599")
        return probe

    def to_document(self) -> dict[str, Any]:
        document = {item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name) != item.default}
        for name in ("headers", "send_headers"):
            if name in document:
                document[name] = dict(document[name])
        return document


@dataclass(frozen=True)
class TcpProbe:
    """A connection; `receive` is an expression for what comes back after `send`. Without it, that the image takes the connection is all."""

    port: Optional[int] = None
    send: str = ""
    receive: Optional[str] = None

    @property
    def title(self) -> str:
        return f"tcp port {self.port}" + (f": {self.receive}" if self.receive is not None else "")

    @classmethod
    def parse(cls, document: Any) -> TcpProbe:
        """Raises ValueError."""
        entry = _entry(cls, document)
        _check_type(entry, "send", str, "text")
        _check_expressions("receive", [entry["receive"]] if entry.get("receive") is not None else [])
        _check_port(entry)
        return cls(**entry)

    def to_document(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name) != item.default}


@dataclass(frozen=True)
class Expectations:
    """`name` is what the test is called in its report. `exit_status` None means that the application may run on. `timeout` is in seconds,
    for all of it; None is no limit. `memory` ("96M"), `args` and `env` are what the image is booted with. `python_tests` tells that the
    image starts pytest, which reports over the console: see guest.py.
    """

    name: str = ""
    exit_status: Optional[int] = None
    console: tuple[str, ...] = ()
    console_not: tuple[str, ...] = ()
    http: tuple[HttpProbe, ...] = ()
    tcp: tuple[TcpProbe, ...] = ()
    python_tests: bool = False
    timeout: Optional[float] = DEFAULT_TIMEOUT
    memory: Optional[str] = None
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, path: Path) -> Expectations:
        """Raises UnikernelError."""
        try:
            return cls.parse(json.loads(path.read_bytes()))
        except ValueError as error:
            raise UnikernelError(f"{path} does not say what is expected of an image: {error}.") from error
        except OSError as error:
            raise UnikernelError(f"The expectations {path} cannot be read: {error.strerror}.") from error

    @classmethod
    def parse(cls, document: Any) -> Expectations:
        """Raises ValueError that starts with the name of what is wrong."""
        entry = _entry(cls, document)
        with_names = {
            "console": parse_expressions,
            "console_not": parse_expressions,
            "http": parse_http,
            "tcp": parse_tcp,
            "args": _texts,
        }
        for name, parse in with_names.items():
            if name in entry:
                entry[name] = _named(name, parse, entry[name])
        for name in ("name", "memory"):
            _check_type(entry, name, str, "text", or_none=name == "memory")
        _check_type(entry, "python_tests", bool, "true or false")
        if entry.get("memory") is not None:
            _named("memory", parse_size, entry["memory"])
        if entry.get("exit_status") is not None:
            _named("exit_status", check_exit_status, entry["exit_status"])
        timeout = entry.get("timeout", DEFAULT_TIMEOUT)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
            raise ValueError(f"timeout: {timeout!r} is no number of seconds")
        entry["env"] = _pairs("env", entry.get("env", {}))
        return cls(**entry)

    def to_json(self) -> str:
        """Canonical: what is not expected is not in it."""
        document = {item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name) != item.default}
        for name in ("http", "tcp"):
            if name in document:
                document[name] = [probe.to_document() for probe in document[name]]
        if "env" in document:
            document["env"] = dict(document["env"])
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    def for_image(self, library_os: LibraryOs, ports: Optional[Sequence[Port]], *, has_network: bool = True) -> Expectations:
        """As they are for an image of this library OS that listens on these ports: what they leave open is filled in. `ports` None means
        that nobody knows them yet.

        Raises ValueError, which starts with the name of what is wrong, for what such an image cannot be asked.
        """
        if not library_os.machines:
            raise ValueError(f"image: images of {library_os.name} are booted elsewhere: {library_os.elsewhere}")
        if self.python_tests:
            return self
        expectations = self
        reports = library_os.exit.report is not ExitReport.NONE
        if self.exit_status is not None and not reports:
            raise ValueError(f"exit_status: {library_os.name} has no way to say how its application ended: leave it out")
        if self.exit_status is None and not (self.console or self.http or self.tcp):
            if not reports:
                raise ValueError(
                    f"console: nothing is expected, and {library_os.name} has no way to say how its application ended: name what is "
                    "to be on its console, or a probe"
                )
            expectations = replace(self, exit_status=0)
        if self.memory is not None and parse_size(self.memory) < library_os.minimum_memory:
            raise ValueError(
                f"memory: it is {self.memory}, and {library_os.name} needs {library_os.minimum_memory >> 20}M at least"
            )
        if self.args or self.env:
            try:
                render_command_line(library_os, "", self.args, dict(self.env))
            except UnikernelError as error:
                raise ValueError(f"{'args' if self.args else 'env'}: {str(error).rstrip('.')}") from error
        if (self.http or self.tcp) and not has_network:
            raise ValueError(f"{'http' if self.http else 'tcp'}: the image has no network")
        if ports is None:
            return expectations
        listening = [port.guest_port for port in ports if port.protocol == "tcp"]
        return replace(
            expectations,
            http=tuple(replace(probe, port=_port("http", probe.port, listening)) for probe in self.http),
            tcp=tuple(replace(probe, port=_port("tcp", probe.port, listening)) for probe in self.tcp),
        )


def _port(name: str, wanted: int | None, listening: Sequence[int]) -> int:
    if not listening:
        raise ValueError(f"{name}: the image listens on no TCP port; name those that it does in its `ports`")
    if wanted is None:
        return listening[0]
    if wanted not in listening:
        raise ValueError(f"{name}: {wanted} is none of the image's TCP ports: {', '.join(map(str, listening))}")
    return wanted


# --- parts of the document, as fields of a target are them, too -----------------------------------------------------


def parse_expressions(value: Any) -> tuple[str, ...]:
    """Raises ValueError for what is no list of regular expressions."""
    texts = _texts(value)
    _check_expressions("", texts)
    return texts


def parse_http(value: Any) -> tuple[HttpProbe, ...]:
    """Raises ValueError."""
    return tuple(HttpProbe.parse(entry) for entry in _list(value))


def parse_tcp(value: Any) -> tuple[TcpProbe, ...]:
    """Raises ValueError."""
    return tuple(TcpProbe.parse(entry) for entry in _list(value))


def check_exit_status(value: Any) -> None:
    """Raises ValueError."""
    if type(value) is not int or not 0 <= value <= LARGEST_STATUS:
        raise ValueError(f"{value!r} is no exit status: they are 0 to {LARGEST_STATUS}")


def _named(name: str, parse: Any, value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _entry(cls: type[Any], document: Any) -> dict[str, Any]:
    """The document, if its keys are those of the dataclass."""
    if not isinstance(document, Mapping):
        raise ValueError(f"{document!r} is no object with names and values")
    names = [item.name for item in fields(cls)]
    for name in document:
        if name not in names:
            raise ValueError(f"{name!r} is none of {', '.join(names)}")
    return dict(document)


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{value!r} is no list")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    for text in _list(value):
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text")
    return tuple(value)


def _pairs(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(word, str) for pair in value.items() for word in pair):
        raise ValueError(f"{name}: {value!r} is no object of texts by name")
    if name != "env":
        for key, text in value.items():
            if not _TOKEN.fullmatch(key) or (name == "send_headers" and not (text.isprintable() and text.isascii())):
                raise ValueError(f"{name}: {key!r} is no header")
    return tuple(sorted(value.items()))


def _check_type(entry: Mapping[str, Any], name: str, kind: type, what: str, *, or_none: bool = False) -> None:
    if name in entry and type(entry[name]) is not kind and not (or_none and entry[name] is None):
        raise ValueError(f"{name}: {entry[name]!r} is not {what}")


def _check_port(entry: Mapping[str, Any]) -> None:
    port = entry.get("port")
    if port is not None and (type(port) is not int or not 0 < port < 65536):
        raise ValueError(f"port: {port!r} is no port: they are 1 to 65535")


def _check_expressions(name: str, expressions: Sequence[Any]) -> None:
    for expression in expressions:
        prefix = f"{name}: " if name else ""
        if not isinstance(expression, str):
            raise ValueError(f"{prefix}{expression!r} is no text")
        try:
            re.compile(expression)
        except re.error as error:
            raise ValueError(f"{prefix}{expression!r} is no regular expression: {error}") from error
