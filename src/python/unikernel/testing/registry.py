"""A real registry, Debian's docker-registry, and a proxy that can stand before it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable, NamedTuple

import bcrypt

from unikernel.testing.debian_package import program

_START_SECONDS = 30
_LISTENING = re.compile(r"listening on [^ \"]*:(\d+)")
# The combined log format of Apache.
_ACCESS = re.compile(r'"([A-Z]+) (\S+) HTTP/[\d.]+" (\d+) ')
_BLOCK = 1 << 16


class Request(NamedTuple):
    """`path` has no query."""

    method: str
    path: str
    status: int


@dataclass(frozen=True)
class Registry:
    """`host` is address and port."""

    host: str
    process: subprocess.Popen[bytes]
    access_log: Path

    def requests(self, method: str = "", path: str = "") -> list[Request]:
        """What it has answered so far: of that method, with paths that match the regular expression somewhere."""
        found = _ACCESS.findall(self.access_log.read_text())
        requests = [Request(verb, target.partition("?")[0], int(status)) for verb, target, status in found]
        return [request for request in requests if method in ("", request.method) and re.search(path, request.path)]

    def uploads(self) -> list[Request]:
        """Blobs that were sent: a PUT ends each one."""
        return self.requests("PUT", "/blobs/uploads/")

    def kill(self) -> None:
        """As a crash does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_registry(
    directory: Path, *, users: Mapping[str, str] | None = None, certificate: Path | None = None, key: Path | None = None
) -> Iterator[Registry]:
    """Starts one that stores below `directory`, where an earlier one may have stored. `users` are names with passwords; with none, nobody
    is asked. With a certificate and its key (PEM) it speaks TLS.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # The port is one that is free.
    settings: dict[str, object] = {"addr": "127.0.0.1:0"}
    if certificate is not None:
        settings["tls"] = {"certificate": str(certificate), "key": str(key)}
    configuration: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": settings,
    }
    if users:
        lines = [f"{name}:{bcrypt.hashpw(word.encode(), bcrypt.gensalt(4)).decode()}\n" for name, word in users.items()]
        (directory / "htpasswd").write_text("".join(lines))
        configuration["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    # JSON is YAML.
    (directory / "registry.yml").write_text(json.dumps(configuration))
    access_log, log = directory / "access.log", directory / "registry.log"
    with access_log.open("wb") as output, log.open("wb") as errors:
        command = [program("docker-registry"), "serve", str(directory / "registry.yml")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
    try:
        yield Registry(f"127.0.0.1:{_port(process, log)}", process, access_log)
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        match = _LISTENING.search(log.read_text())
        if match:
            return int(match[1])
        time.sleep(0.02)
    raise AssertionError(f"The registry does not start: {log.read_text()}")


# --- a proxy ------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """What a proxy answers in the registry's place."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    @classmethod
    def error(cls, status: int, code: str, message: str = "") -> Answer:
        """As the distribution specification has errors."""
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        return cls(status, {"Content-Type": "application/json"}, body)


class Asked(NamedTuple):
    """A request that comes to a proxy; `path` has the query."""

    method: str
    path: str
    headers: Mapping[str, str]


def _ask_the_registry(asked: Asked) -> Answer | None:
    return None


def _go_on(asked: Asked, sent: int) -> None:
    pass


def _unchanged(asked: Asked, body: bytes) -> bytes:
    return body


@dataclass
class Proxy:
    """`answer` gives what is answered without asking the registry, and None to ask it. `sending` is told of each request how many bytes of
    its body the registry has, block by block. `changed` changes the body of an answer. `requests` are those that came, in order.
    """

    upstream: str
    host: str = ""
    answer: Callable[[Asked], Answer | None] = _ask_the_registry
    sending: Callable[[Asked, int], None] = _go_on
    changed: Callable[[Asked, bytes], bytes] = _unchanged
    requests: list[Request] = field(default_factory=list)


@contextmanager
def running_proxy(upstream: str) -> Iterator[Proxy]:
    """Before the registry at `upstream` (address and port)."""
    proxy = Proxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    proxy.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        # Clients try TLS first, which has no line that could be waited for.
        try:
            first = self.rfile.peek(1)[:1]  # type: ignore[attr-defined]
        except ConnectionError:
            first = b""
        if not first.isalpha():
            self.close_connection = True
            return
        super().handle_one_request()

    def _handle(self) -> None:
        asked = Asked(self.command, self.path, dict(self.headers.items()))
        answer = self.proxy.answer(asked)
        try:
            if answer is None:
                answer = self._ask(asked)
            else:
                for _ in self._body():
                    pass
        except (OSError, http.client.HTTPException):
            # The registry has gone, or the client.
            self.close_connection = True
            return
        self.proxy.requests.append(Request(self.command, self.path.partition("?")[0], answer.status))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_DELETE = do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = _handle

    def _ask(self, asked: Asked) -> Answer:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            connection.putrequest(asked.method, asked.path, skip_host=True, skip_accept_encoding=True)
            chunked = "chunked" in asked.headers.get("Transfer-Encoding", "")
            # The host too, by which the registry makes its addresses.
            for name, value in asked.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            sent = 0
            for block in self._body():
                connection.send(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
                sent += len(block)
                self.proxy.sending(asked, sent)
            if chunked:
                connection.send(b"0\r\n\r\n")
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), self.proxy.changed(asked, response.read()))
        finally:
            connection.close()

    def _body(self) -> Iterator[bytes]:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            left = int(self.headers.get("Content-Length", 0))
            while left:
                block = self.rfile.read(min(left, _BLOCK))
                if not block:
                    raise ConnectionResetError
                left -= len(block)
                yield block
            return
        while True:
            size = int(self.rfile.readline().split(b";")[0] or b"0", 16)
            block = self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return
            yield block
