"""How processes get along with a remote cache, in all versions of Pants."""

from __future__ import annotations

from dataclasses import replace

from pants.engine.process import Process

# For a cache to answer, and to bring what it has: an image of tens of MB, at least over a good line.
PATIENCE_MILLIS = 5_000


def ask_remote_cache_first(process: Process) -> Process:
    """By itself, Pants starts a process while it still asks, and one of both is for nothing: a compilation, or what comes from the cache. A
    cache that does not have it says so at once, and what does not answer in time is not waited for.
    """
    if process.remote_cache_speculation_delay_millis == PATIENCE_MILLIS:
        return process
    return replace(process, remote_cache_speculation_delay_millis=PATIENCE_MILLIS)
