from __future__ import annotations

import io
import time

import pytest

import progress as progress_module
from progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_output_has_whole_lines_and_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_PLAIN_SECONDS", 0.05)
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("installing"):
        progress.detail("1 of 2")
        time.sleep(0.3)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "bootstrap: installing ..."
    assert "bootstrap: installing: 1 of 2 (0 s)" in lines
    assert lines[-1].startswith("bootstrap: installing: done in ")
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_nobody_waits_more_than_ten_seconds_for_a_sign_of_life() -> None:
    assert max(progress_module._PLAIN_SECONDS, progress_module._TERMINAL_SECONDS) < 10


def test_a_terminal_has_one_line_per_step() -> None:
    stream = Terminal()
    progress = Progress(stream)
    with progress.step("installing"):
        progress.detail("1 of 2")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().splitlines()[-1].split("\x1b[K")[-1].startswith("bootstrap: installing: done in ")


def test_a_failed_step_is_not_reported_as_done() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError):
        with Progress(stream).step("installing"):
            raise ValueError
    assert "done" not in stream.getvalue()
