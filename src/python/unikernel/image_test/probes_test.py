from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Callable

import pytest

from unikernel.image_test.expectations import HttpProbe, NotAsExpectedError, TcpProbe
from unikernel.image_test.probes import Network, probe_http, probe_tcp

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"
Serve = Callable[[socket.socket], None]


def _reset(connection: socket.socket) -> None:
    """As QEMU ends a connection that the image refuses."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@contextlib.contextmanager
def _service(*serve: Serve) -> Iterator[tuple[int, list[bytes]]]:
    """Serves each connection by the next function, the last one ever again; with what was received of each."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            for number in range(10**6):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    serve[min(number, len(serve) - 1)](connection)

        def read(connection: socket.socket) -> None:
            # A client sends a request's head and its body one after another.
            received.append(connection.recv(1 << 16))
            more = received[-1]
            while more and select.select([connection], [], [], 0.05)[0]:
                more = connection.recv(1 << 16)
                received[-1] += more

        serve = tuple(_after(read, function) if function not in (_reset, _silent) else function for function in serve)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1], received
        listener.shutdown(socket.SHUT_RDWR)


def _after(first: Serve, then: Serve) -> Serve:
    def serve(connection: socket.socket) -> None:
        first(connection)
        then(connection)

    return serve


def _silent(connection: socket.socket) -> None:
    """As QEMU keeps a connection that the image cannot refuse yet."""
    connection.settimeout(5)
    with contextlib.suppress(OSError):
        while connection.recv(1 << 16):
            pass


def _answer(content: bytes) -> Serve:
    return lambda connection: connection.sendall(content)


@contextlib.contextmanager
def _network(*serve: Serve, closed: tuple[Serve, ...] = (_reset,), seconds: float = 20) -> Iterator[tuple[Network, list[bytes]]]:
    with _service(*serve) as (port, received), _service(*closed) as (closed_port, _):
        yield Network({80: port}, closed_port, time.monotonic() + seconds, lambda: ""), received


def test_the_first_answer_counts_and_no_request_is_made_twice() -> None:
    """The image comes up on its network, then the service listens, then it answers slowly."""

    def slow(connection: socket.socket) -> None:
        time.sleep(0.5)
        connection.sendall(_OK)

    with _network(_reset, _reset, slow, closed=(_silent, _silent, _reset)) as (network, received):
        probe_http(HttpProbe(port=80, body="^hello$", headers=(("content-type", "^text/"),)), network)
    (request,) = received
    assert request.startswith(b"GET / HTTP/1.1\r\n")
    assert b"Host: 127.0.0.1:80\r\n" in request


def test_what_is_sent() -> None:
    with _network(_answer(_OK)) as (network, received):
        probe_http(HttpProbe("PUT", "/a?b", 80, send="né", send_headers=(("X-A", "b"),)), network)
    head, body = received[0].split(b"\r\n\r\n")
    assert head.startswith(b"PUT /a?b HTTP/1.1\r\n")
    assert b"X-A: b" in head and b"Content-Length: 3" in head
    assert body == "né".encode()


@pytest.mark.parametrize(
    "probe, answer, message",
    [
        (HttpProbe(port=80, status=404), _OK, "GET / on port 80: expected the status 404, and it is 200 OK; its body is 'hello.n'"),
        (HttpProbe(port=80, body="bye"), _OK, "expected a body that matches 'bye', and its body is 'hello.n'"),
        (HttpProbe(port=80, headers=(("Age", ""),)), _OK, "expected the header Age, and there are Content-Type, Content-Length"),
        (
            HttpProbe(port=80, headers=(("Content-Type", "html"),)),
            _OK,
            "expected the header Content-Type to match 'html', and it is text/plain",
        ),
        (HttpProbe(port=80), b"SSH-2.0\r\n", "what came is no answer of HTTP: BadStatusLine"),
        (HttpProbe(port=80), _OK[:-3], "what came is no answer of HTTP: IncompleteRead"),
        (HttpProbe(port=80, body="x"), _OK.replace(b": 6", b": 900") + b"y" * 894, r"\.\.\. \(900 characters\)"),
    ],
)
def test_an_answer_that_is_not_as_expected(probe: HttpProbe, answer: bytes, message: str) -> None:
    with _network(_answer(answer), _answer(_OK)) as (network, received):
        with pytest.raises(NotAsExpectedError, match=message):
            probe_http(probe, network)
    # Nothing is tried again.
    assert len(received) == 1


def test_the_time_is_limited() -> None:
    with _network(_reset, seconds=1) as (network, _), pytest.raises(
        NotAsExpectedError, match="nothing listened on port 80 before the time"
    ):
        probe_http(HttpProbe(port=80), network)
    with _network(_silent, seconds=1) as (network, _), pytest.raises(
        NotAsExpectedError, match="GET / on port 80: no answer before the time"
    ):
        probe_http(HttpProbe(port=80), network)
    with _network(_silent, closed=(_silent,), seconds=1) as (network, _):
        with pytest.raises(NotAsExpectedError, match="did not come up on its network before the time was up"):
            probe_http(HttpProbe(port=80), network)
    with _network(_answer(b"a"), seconds=1) as (network, _), pytest.raises(
        NotAsExpectedError, match="expected 'b', and what came is 'a'"
    ):
        probe_tcp(TcpProbe(80, "x", "b"), network)


def test_an_image_that_is_gone_is_not_waited_for() -> None:
    with _network(_reset) as (network, _):
        network.why_gone = lambda: "the image ended first, with status 1"
        with pytest.raises(
            NotAsExpectedError, match="the image did not come up on its network: the image ended first, with status 1"
        ):
            probe_http(HttpProbe(port=80), network)


def test_a_conversation_by_tcp() -> None:
    def pong(connection: socket.socket) -> None:
        for part in (b"+PO", b"NG\r\n"):
            connection.sendall(part)
            time.sleep(0.05)
        _silent(connection)

    with _network(_reset, pong) as (network, received):
        probe_tcp(TcpProbe(80, "PING\r\n", r"^\+PONG\s"), network)
    assert received == [b"PING\r\n"]


def test_that_a_connection_is_taken_is_told_from_that_qemu_takes_it() -> None:
    with _network(_reset, _reset, _silent) as (network, _):
        probe_tcp(TcpProbe(80), network)
    # The time may be up in the midst of asking.
    with _network(_reset, seconds=1) as (network, _), pytest.raises(
        NotAsExpectedError, match="(nothing listened on port 80|does not answer on its network any more) before the time was up"
    ):
        probe_tcp(TcpProbe(80), network)
    # A service that speaks first.
    with _network(_answer(b"220 ready\r\n")) as (network, _):
        probe_tcp(TcpProbe(80), network)


def test_a_network_that_refuses_nothing_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unikernel.image_test.probes._SILENCE_SECONDS", 0.3)
    monkeypatch.setattr("unikernel.image_test.probes._SETTLING_SECONDS", 0.1)
    with _network(_answer(_OK), closed=(_silent,)) as (network, received):
        probe_http(HttpProbe(port=80), network)
        assert not network.refuses
    assert len(received) == 1
    with _network(_reset, _silent, closed=(_silent,)) as (network, _):
        probe_tcp(TcpProbe(80), network)
