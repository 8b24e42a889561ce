"""Peers that are no good: a line that is slow, and a server that talks nonsense."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Callable

_BLOCK = 1 << 16


@contextlib.contextmanager
def _serving(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server on this machine that serves each connection in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            # close() alone leaves accept() waiting.
            listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def slow_line(port: int, seconds: float) -> Iterator[int]:
    """To a server on this machine: what it answers comes so much later, each block for itself."""

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
            threading.Thread(target=_copy, args=(client, server, 0), daemon=True).start()
            _copy(server, client, seconds)

    with _serving(serve) as own:
        yield own


def _copy(source: socket.socket, target: socket.socket, seconds: float) -> None:
    with contextlib.suppress(OSError):
        for block in iter(lambda: source.recv(_BLOCK), b""):
            time.sleep(seconds)
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def nonsense() -> Iterator[int]:
    """The port of a server that answers anything with random bytes: not even HTTP/2."""
    generator = random.Random(1)

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while client.recv(_BLOCK):
                client.sendall(generator.randbytes(64))

    with _serving(serve) as own:
        yield own
