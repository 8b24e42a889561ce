"""Signs of life: a line that is rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, TextIO

# Nobody who watches waits longer than ten seconds for a sign of life.
_TERMINAL_SECONDS = 1.0
_PLAIN_SECONDS = 9.0


class Progress:
    """Reports what the set-up is doing to `stream`, one step at a time.

    On a terminal a step has one line, rewritten each second. Elsewhere a step prints a line when it
    starts, one every nine seconds while it runs, and one when it ends.
    """

    def __init__(self, stream: Optional[TextIO] = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._is_terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._title = ""
        self._detail = ""
        self._started = 0.0

    def line(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._print(f"bootstrap: {text}\n")

    def detail(self, text: str) -> None:
        """Say how far the step that runs has come, such as "12 of 49 packages"."""
        self._detail = text

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Report `title` as running until the block ends, with a sign of life at least every ten seconds."""
        self._title, self._detail, self._started = title, "", time.monotonic()
        over = threading.Event()
        if not self._is_terminal:
            self.line(f"{title} ...")
        watcher = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watcher.start()
        try:
            yield
        except BaseException:
            self._stop(over, watcher)
            raise
        self._stop(over, watcher)
        self.line(f"{title}: done in {self._seconds()} s{f' ({self._detail})' if self._detail else ''}")

    def _stop(self, over: threading.Event, watcher: threading.Thread) -> None:
        over.set()
        watcher.join()
        if self._is_terminal:
            self._print("\r\x1b[K")

    def _watch(self, over: threading.Event) -> None:
        while True:
            if self._is_terminal:
                with self._lock:
                    self._print(f"\r\x1b[Kbootstrap: {self._status()}")
            if over.wait(_TERMINAL_SECONDS if self._is_terminal else _PLAIN_SECONDS):
                return
            if not self._is_terminal:
                self.line(self._status())

    def _status(self) -> str:
        detail = f": {self._detail}" if self._detail else ""
        return f"{self._title}{detail} ({self._seconds()} s)"

    def _seconds(self) -> int:
        return round(time.monotonic() - self._started)

    def _print(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
