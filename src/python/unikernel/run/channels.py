"""Byte streams out of a machine, each as it comes."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Sequence
from typing import BinaryIO, Callable

_BLOCK = 1 << 16
# Of a channel that never ends, before another one has its turn.
_MOST_BLOCKS = 64


class Channels:
    """`streams` go one way, `sockets` both. They are in the order of their precedence, streams first: of two that have something at the
    same time, the first is read as far as it goes, so that what a program printed before it ended is there before what is said of its end.

    QEMU has one end of each. `take` is called with a channel's name and its bytes, from one thread.
    """

    def __init__(self, streams: Sequence[str], sockets: Sequence[str], take: Callable[[str, bytes], None]) -> None:
        self._take = take
        self._pipes: dict[str, BinaryIO] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._theirs: dict[str, socket.socket | BinaryIO] = {}
        for name in streams:
            reading, writing = os.pipe()
            self._pipes[name], self._theirs[name] = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        for name in sockets:
            self._sockets[name], self._theirs[name] = socket.socketpair()
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)

    @property
    def descriptors(self) -> list[int]:
        """QEMU's ends."""
        return [end.fileno() for end in self._theirs.values()]

    def options(self) -> list[str]:
        """QEMU's, for a character device of each name."""
        words = []
        for name, end in self._theirs.items():
            if name in self._sockets:
                device = f"socket,id={name},fd={end.fileno()}"
            else:
                # Of what a virtio console prints, QEMU throws away what a pipe or a socket does not take at once; a log it waits for.
                device = f"null,id={name},logfile=/dev/fd/{end.fileno()},logappend=on"
            words += ["-chardev", device]
        return words

    def start(self, name: str, pipe: BinaryIO) -> None:
        """When QEMU has its ends. `pipe` is read too."""
        self._pipes[name] = pipe
        for reading in self._pipes.values():
            os.set_blocking(reading.fileno(), False)
        for end in self._theirs.values():
            end.close()
        self._thread.start()

    def send(self, name: str, data: bytes) -> None:
        """To the machine; nothing, when it has ended."""
        try:
            self._sockets[name].sendall(data)
        except OSError:
            pass

    def take_over(self, name: str) -> socket.socket:
        """Our end of a channel that somebody else reads, and closes."""
        return self._sockets.pop(name)

    def join(self) -> None:
        """Until all have ended."""
        self._thread.join()

    def __enter__(self) -> Channels:
        return self

    def __exit__(self, *_: object) -> None:
        ends: list[socket.socket | BinaryIO] = [*self._pipes.values(), *self._sockets.values(), *self._theirs.values()]
        for end in ends:
            end.close()

    def _read(self) -> None:
        sources: dict[str, socket.socket | BinaryIO] = {**self._pipes, **self._sockets}
        order = list(sources)
        with selectors.DefaultSelector() as selector:
            for name, source in sources.items():
                selector.register(source, selectors.EVENT_READ, name)
            while selector.get_map():
                for key in sorted((key for key, _ in selector.select()), key=lambda key: order.index(key.data)):
                    if not self._take_what_is_there(key.data):
                        selector.unregister(key.fileobj)

    def _take_what_is_there(self, name: str) -> bool:
        """False: it has ended."""
        try:
            for _ in range(_MOST_BLOCKS):
                if name in self._sockets:
                    block = self._sockets[name].recv(_BLOCK, socket.MSG_DONTWAIT)
                else:
                    block = os.read(self._pipes[name].fileno(), _BLOCK)
                if not block:
                    return False
                self._take(name, block)
        except BlockingIOError:
            pass
        except OSError:
            # The other end went away with something of ours unread.
            return False
        return True
