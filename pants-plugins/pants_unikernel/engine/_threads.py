"""Threads beside those of the engine."""

from __future__ import annotations

from typing import Callable

from pants.engine.streaming_workunit_handler import (
    thread_locals_get_for_current_thread,
    thread_locals_set_for_current_thread,
)


def logging_as_here(function: Callable[[], None]) -> Callable[[], None]:
    """Return a function for a new thread, which logs to where the current thread does: to the terminal of the run that a rule is
    for. By itself, a new thread logs to the daemon's own file.
    """
    thread_locals = thread_locals_get_for_current_thread()

    def run() -> None:
        thread_locals_set_for_current_thread(thread_locals)
        function()

    return run
