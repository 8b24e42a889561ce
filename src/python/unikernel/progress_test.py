from __future__ import annotations

import os
from pathlib import Path

import pytest

from unikernel.progress import PROGRESS_VARIABLE, SECONDS_BETWEEN_COUNTS, Progress, ProgressReader


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_messages_arrive_once_while_the_step_runs(tmp_path: Path) -> None:
    reader = ProgressReader(tmp_path / "step")
    assert reader.new_messages() == []
    progress = Progress(str(tmp_path / "step"))
    assert reader.new_messages() == []
    progress.report("unpacking")
    assert reader.new_messages() == ["unpacking"]
    progress.report("compiling\nfiles")
    progress.report("linking")
    assert reader.new_messages() == ["compiling files", "linking"]
    assert reader.new_messages() == []


def test_an_earlier_run_is_not_reported_again(tmp_path: Path) -> None:
    Progress(str(tmp_path / "step")).report("long ago")
    reader = ProgressReader(tmp_path / "step")
    assert reader.new_messages() == []
    progress = Progress(str(tmp_path / "step"))
    progress.report("now")
    assert reader.new_messages() == ["now"]


def test_a_run_that_replaces_another_is_reported_from_its_start(tmp_path: Path) -> None:
    reader = ProgressReader(tmp_path / "step")
    one = Progress(str(tmp_path / "step"))
    one.report("one of two")
    assert reader.new_messages() == ["one of two"]
    two = Progress(str(tmp_path / "step"))
    one.report("two of two")
    two.report("one of two")
    assert reader.new_messages() == ["one of two"]


def test_counts_are_reported_every_ten_seconds(tmp_path: Path) -> None:
    clock = _Clock()
    reader = ProgressReader(tmp_path / "step")
    progress = Progress(str(tmp_path / "step"), clock)
    for done in range(61):
        progress.count(f"{done} of 60")
        clock.now += SECONDS_BETWEEN_COUNTS / 20
    progress.report("60 of 60")
    assert reader.new_messages() == ["0 of 60", "20 of 60", "40 of 60", "60 of 60", "60 of 60"]


def test_half_a_line_is_not_reported(tmp_path: Path) -> None:
    reader = ProgressReader(tmp_path / "step")
    for content, expected in ((b"7", []), (b"7\nabc", []), (b"7\nabc\nd", ["abc"]), (b"7\nabc\nd\n", ["d"])):
        (tmp_path / "step").write_bytes(content)
        assert reader.new_messages() == expected


@pytest.mark.parametrize("file", ["", "no-such-directory/step", "/dev/null/step"])
def test_a_step_that_nobody_watches_runs_all_the_same(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PROGRESS_VARIABLE, file)
    progress = Progress.from_environment()
    progress.report("unpacking")
    progress.count("1 of 2")
    assert os.listdir(tmp_path) == []
