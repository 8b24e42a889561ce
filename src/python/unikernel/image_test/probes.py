"""Requests to a service in an image.

QEMU's user network takes a connection before the image has a network, and drops it when the image refuses it: that a connection ends
before any byte of an answer means that nobody listens yet. One that the image cannot refuse yet stays open, and QEMU asks for it again
only seconds later. So what is asked first is a port on which nothing listens: once that is refused, the image is on its network, and a
request is either refused at once or gets the service's own answer. No service gets a request twice.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable

from unikernel.image_test.expectations import HttpProbe, NotAsExpectedError, TcpProbe

_PAUSE_SECONDS = 0.02
_LEAST_SECONDS = 0.001
# After it the connection to the port where nothing listens is made anew.
_REFUSAL_SECONDS = 0.1
# There are networks that do not refuse a connection. By then they are up, or QEMU's own repetitions have to do.
_SILENCE_SECONDS = 10
# For a connection that nothing on the same network is refused after.
_SETTLING_SECONDS = 1
_MOST_BYTES = 16 << 20
_SHOWN = 300


class _NotListening(Exception):
    """A connection ended before any byte of an answer."""


@dataclass
class Network:
    """An image's network from outside. `ports` are the host's by the guest's; `closed_port` is the host's for one where nothing listens.
    `deadline` is of time.monotonic(). `why_gone` says why the image is not there any more, or nothing.
    """

    ports: dict[int, int]
    closed_port: int | None
    deadline: float | None
    why_gone: Callable[[], str]
    host: str = "127.0.0.1"
    is_up: bool = False
    refuses: bool = True

    def left(self) -> float | None:
        """Seconds, for timeouts of sockets: 0 would mean not to wait at all, and None is without an end."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), _LEAST_SECONDS)

    def check(self, what: str) -> None:
        """Raises NotAsExpectedError when there is nothing to wait for any more."""
        gone = self.why_gone()
        if gone:
            raise NotAsExpectedError(f"{what}: {gone}")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise NotAsExpectedError(f"{what} before the time was up")

    def wait_until_up(self) -> None:
        """Until the image refuses a connection, or has been silent for long."""
        if self.is_up:
            return
        end = time.monotonic() + _SILENCE_SECONDS
        while self.closed_port is not None:
            self.check("the image did not come up on its network")
            if time.monotonic() > end:
                self.refuses = False
                break
            if self._is_refused(_REFUSAL_SECONDS):
                break
        self.is_up = True

    def _is_refused(self, timeout: float) -> bool:
        assert self.closed_port is not None
        with socket.socket() as connection:
            connection.settimeout(timeout)
            try:
                connection.connect((self.host, self.closed_port))
            except OSError:
                # QEMU itself is not there.
                time.sleep(_PAUSE_SECONDS)
                return False
            try:
                return connection.recv(1) == b""
            except socket.timeout:
                return False
            except ConnectionError:
                return True

    def is_taken(self, connection: socket.socket) -> bool:
        """Whether the image has taken a connection that was just made, and not only QEMU has. What is asked later is refused later."""
        if self.refuses and self.closed_port is not None:
            while not self._is_refused(_SETTLING_SECONDS):
                self.check("the image does not answer on its network any more")
            settling = _PAUSE_SECONDS
        else:
            settling = _SETTLING_SECONDS
        ready, _, _ = select.select([connection], [], [], settling)
        return not ready or _has_bytes(connection)

    def connect(self, port: int) -> socket.socket:
        return socket.create_connection((self.host, self.ports[port]), timeout=self.left())

    def once_listening(self, port: int) -> Iterator[None]:
        """Tries, until one ends well: with a pause after each that raises _NotListening."""
        self.wait_until_up()
        while True:
            self.check(f"nothing listened on port {port}")
            yield
            time.sleep(_PAUSE_SECONDS)


def _has_bytes(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except ConnectionError:
        return False


def _wait_for_answer(connection: socket.socket) -> None:
    """Until there is a byte of an answer. Raises _NotListening when the connection ends before."""
    if not _has_bytes(connection):
        raise _NotListening


# --- HTTP ---------------------------------------------------------------------------------------------------------


def probe_http(probe: HttpProbe, network: Network) -> None:
    """Raises NotAsExpectedError."""
    assert probe.port is not None
    for _ in network.once_listening(probe.port):
        try:
            _check_answer(probe, *_request(probe, network))
            return
        except (_NotListening, ConnectionError):
            continue
        except socket.timeout as error:
            raise NotAsExpectedError(f"{_asked(probe)}: no answer before the time was up") from error
        except (http.client.HTTPException, OSError) as error:
            raise NotAsExpectedError(f"{_asked(probe)}: what came is no answer of HTTP: {error!r}") from error


def _asked(probe: HttpProbe) -> str:
    return f"{probe.method} {probe.path} on port {probe.port}"


def _request(probe: HttpProbe, network: Network) -> tuple[http.client.HTTPResponse, bytes]:
    assert probe.port is not None
    connection = http.client.HTTPConnection(network.host, network.ports[probe.port], timeout=network.left())
    with contextlib.closing(connection):
        headers = {"Host": f"{network.host}:{probe.port}", "Connection": "close", **dict(probe.send_headers)}
        connection.request(probe.method, probe.path, probe.send.encode() or None, headers)
        _wait_for_answer(connection.sock)
        try:
            answer = connection.getresponse()
            body = answer.read(_MOST_BYTES)
            if answer.length and len(body) < _MOST_BYTES:
                raise http.client.IncompleteRead(body, answer.length)
            return answer, body
        except ConnectionError as error:
            # There was a byte of it: it is an answer, and a broken one.
            raise http.client.HTTPException(f"it ends early ({error})") from error


def _check_answer(probe: HttpProbe, answer: http.client.HTTPResponse, body: bytes) -> None:
    text = body.decode(errors="replace")
    came = f"its body is {_shortened(text)}"
    if answer.status != probe.status:
        raise NotAsExpectedError(
            f"{_asked(probe)}: expected the status {probe.status}, and it is {answer.status} {answer.reason}; {came}"
        )
    for name, expression in probe.headers:
        values = answer.headers.get_all(name)
        if values is None:
            raise NotAsExpectedError(
                f"{_asked(probe)}: expected the header {name}, and there are {', '.join(answer.headers.keys())}"
            )
        if not any(re.search(expression, value) for value in values):
            raise NotAsExpectedError(
                f"{_asked(probe)}: expected the header {name} to match {expression!r}, and it is {', '.join(values)}"
            )
    if probe.body is not None and not re.search(probe.body, text, re.MULTILINE):
        raise NotAsExpectedError(f"{_asked(probe)}: expected a body that matches {probe.body!r}, and {came}")


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text)} characters)"


# --- TCP ----------------------------------------------------------------------------------------------------------


def probe_tcp(probe: TcpProbe, network: Network) -> None:
    """Raises NotAsExpectedError."""
    assert probe.port is not None
    for _ in network.once_listening(probe.port):
        try:
            with network.connect(probe.port) as connection:
                if probe.receive is None:
                    if network.is_taken(connection):
                        connection.sendall(probe.send.encode())
                        return
                    continue
                connection.sendall(probe.send.encode())
                _wait_for_answer(connection)
                _receive(probe.receive, probe.port, connection, network)
                return
        except (_NotListening, ConnectionError):
            continue
        except socket.timeout as error:
            raise NotAsExpectedError(
                f"port {probe.port}: expected {probe.receive!r}, and nothing came before the time was up"
            ) from error


def _receive(expression: str, port: int, connection: socket.socket, network: Network) -> None:
    received = b""
    why = "ended"
    while len(received) < _MOST_BYTES:
        if re.search(expression, received.decode(errors="replace"), re.MULTILINE):
            return
        connection.settimeout(network.left())
        try:
            block = connection.recv(1 << 16)
        except socket.timeout:
            why = "went on until the time was up"
            break
        except ConnectionError:
            break
        if not block:
            break
        received += block
    text = _shortened(received.decode(errors="replace"))
    raise NotAsExpectedError(f"port {port}: expected {expression!r}, and what came is {text}, when the connection {why}")
