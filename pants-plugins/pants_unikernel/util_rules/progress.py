"""Processes that report progress while they run: long ones, whose output Pants shows at their end at the earliest."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pants.engine.process import FallibleProcessResult, Process

from pants_unikernel import engine
from pants_unikernel.util_rules.failures import run_step
from unikernel.progress import PROGRESS_VARIABLE, ProgressReader

logger = logging.getLogger(__name__)

_CACHE = "unikernel_progress"
_CACHE_IN_SANDBOX = f".cache/{_CACHE}"
_SECONDS_BETWEEN_LOOKS = 0.5


async def run_reporting_step(process: Process, origin: str) -> FallibleProcessResult:
    """Run a process of the toolkit, as `run_step` does, and log what it reports with `unikernel.progress` in the meantime.

    A result from a cache logs nothing, since no process runs. Neither does a process on another machine, or in a container: its
    report is out of reach.
    """
    # Part of the process's cache key: the same for the same process.
    name = hashlib.sha256("\0".join((process.input_digest.fingerprint, *process.argv)).encode()).hexdigest()
    process = replace(
        process,
        env={**process.env, PROGRESS_VARIABLE: f"{_CACHE_IN_SANDBOX}/{name}"},
        append_only_caches={**process.append_only_caches, _CACHE: _CACHE_IN_SANDBOX},
    )
    reader = ProgressReader(Path(await engine.named_caches_directory() / _CACHE / name))
    with _messages_logged(reader):
        return await run_step(process, origin)


@contextlib.contextmanager
def _messages_logged(reader: ProgressReader) -> Iterator[None]:
    """A thread logs new messages for as long as the context lasts: the rule itself is suspended while its process runs."""
    ended = threading.Event()

    def log_new_messages() -> None:
        for message in reader.new_messages():
            logger.info(message)

    def watch() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            log_new_messages()

    thread = threading.Thread(target=engine.logging_as_here(watch), name="unikernel-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        log_new_messages()
