"""Signals as a shell's foreground process has them, also where tests run under nohup, or in the background of a script."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGTERM: signal.SIG_DFL,
}


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """None of those that ask a process to stop is ignored inside the block, nor by the processes that it starts."""
    previous = {number: signal.signal(number, handler) for number, handler in _DEFAULTS.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
