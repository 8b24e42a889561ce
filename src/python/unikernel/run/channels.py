"""Byte streams out of a machine, each as it comes."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Callable

_BLOCK = 1 << 16
# Of a channel that never ends, before another one has its turn.
_MOST_BLOCKS = 64


class Channels:
    """`names` are in the order of their precedence: of two that have something at the same time, the first is read as far as it goes, so
    that what a program printed before it ended is there before what is said of its end.

    QEMU has one end of each, a descriptor among `descriptors`. `take` is called with a channel's name and its bytes, from one thread.
    """

    def __init__(self, names: Sequence[str], take: Callable[[str, bytes], None]) -> None:
        self._take = take
        self._ours: dict[str, socket.socket] = {}
        self._theirs: dict[str, socket.socket] = {}
        for name in names:
            self._ours[name], self._theirs[name] = socket.socketpair()
        self._pipes: dict[str, BinaryIO] = {}
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)

    @property
    def descriptors(self) -> dict[str, int]:
        return {name: end.fileno() for name, end in self._theirs.items()}

    def start(self, pipes: Mapping[str, BinaryIO]) -> None:
        """When QEMU has its ends. `pipes` are read too, and remain open."""
        self._pipes = dict(pipes)
        for pipe in self._pipes.values():
            os.set_blocking(pipe.fileno(), False)
        for end in self._theirs.values():
            end.close()
        self._thread.start()

    def send(self, name: str, data: bytes) -> None:
        """To the machine; nothing, when it has ended."""
        try:
            self._ours[name].sendall(data)
        except OSError:
            pass

    def take_over(self, name: str) -> socket.socket:
        """Our end of a channel that somebody else reads, and closes."""
        return self._ours.pop(name)

    def join(self) -> None:
        """Until all have ended."""
        self._thread.join()

    def __enter__(self) -> Channels:
        return self

    def __exit__(self, *_: object) -> None:
        for end in (*self._ours.values(), *self._theirs.values()):
            end.close()

    def _read(self) -> None:
        sources: dict[str, socket.socket | BinaryIO] = {**self._ours, **self._pipes}
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
                if name in self._ours:
                    block = self._ours[name].recv(_BLOCK, socket.MSG_DONTWAIT)
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
