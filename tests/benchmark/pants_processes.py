"""What Pants and its processes use: memory and processor time."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from pants_project import PantsProject

_WATCH_SECONDS = 0.1


@dataclass(frozen=True)
class FinishedRun:
    """Seconds. `cpu` is what the process used that was started, with those that it ran itself: see `daemon_seconds`."""

    printed: str
    wall: float
    cpu: float


def finish(process: subprocess.Popen[str], started: float) -> FinishedRun:
    """Waits for a run of Pants, which has to succeed; `started` is by the monotonic clock."""
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(printed)
    return FinishedRun(printed, time.monotonic() - started, usage.ru_utime + usage.ru_stime)


def daemon_seconds(project: PantsProject) -> float:
    """The processor time that this project's Pants daemon has used until now, with all processes that it ran; 0 where there is none."""
    return sum(_seconds(daemon) for daemon in _daemons(project))


def _daemons(project: PantsProject) -> Iterator[psutil.Process]:
    for file in project.root.glob(".pids/*/pantsd/pid"):
        try:
            yield psutil.Process(int(file.read_text()))
        except psutil.NoSuchProcess:
            continue


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


class Memory:
    """`most` is in bytes."""

    most = 0


@contextmanager
def watched_memory(pid: int, project: PantsProject) -> Iterator[Memory]:
    """The most that a run of Pants, its daemon and all their processes hold together inside the block."""
    memory, done = Memory(), threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH_SECONDS):
            memory.most = max(memory.most, sum(_resident(process) for process in _tree(pid, project)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield memory
    finally:
        done.set()
        watcher.join()


def _tree(pid: int, project: PantsProject) -> Iterator[psutil.Process]:
    for root in (pid, *(daemon.pid for daemon in _daemons(project))):
        try:
            process = psutil.Process(root)
            yield from (process, *process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
