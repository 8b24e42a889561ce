from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from commands import CommandFailed, Interrupted, ended_by_signals, run


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_lines_are_returned_handed_on_and_logged(tmp_path: Path) -> None:
    seen: list[str] = []
    log = tmp_path / "log"
    lines = run(python("print('one'); import sys; print('two', file=sys.stderr)"), log=log, on_line=seen.append)
    assert sorted(lines) == sorted(seen) == ["one", "two"]
    assert {"one", "two"} <= set(log.read_text().splitlines())


def test_a_failure_has_the_last_error(tmp_path: Path) -> None:
    script = "print('E: no such package'); print('for more see the manual'); raise SystemExit(100)"
    with pytest.raises(CommandFailed) as raised:
        run(python(script), log=tmp_path / "log")
    assert raised.value.reason == "E: no such package"
    assert raised.value.has("no such") and not raised.value.has("another")


def interrupted_run(tmp_path: Path, must_end: bool) -> float:
    """Return the seconds that an interrupted run of a program of one second took after the signal."""
    script = "import time; print('started', flush=True); time.sleep(1); open('ended', 'w').close()"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    moment = [0.0]

    def interrupt(_line: str) -> None:
        moment[0] = time.monotonic()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    try:
        with pytest.raises(Interrupted), ended_by_signals():
            run(python(script), log=tmp_path / "log", directory=tmp_path, on_line=interrupt, must_end=lambda: must_end)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return time.monotonic() - moment[0]


def test_ctrl_c_ends_a_download_at_once(tmp_path: Path) -> None:
    assert interrupted_run(tmp_path, must_end=False) < 1
    assert not (tmp_path / "ended").exists()


def test_ctrl_c_lets_an_installation_end(tmp_path: Path) -> None:
    interrupted_run(tmp_path, must_end=True)
    assert (tmp_path / "ended").exists()
