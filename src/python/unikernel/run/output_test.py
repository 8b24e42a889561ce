from __future__ import annotations

import io
import json
import os
from pathlib import Path

from unikernel.run.output import JsonOutput, PlainOutput


def test_streams_are_not_mixed_and_not_changed(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+b") as out, (tmp_path / "err").open("w+b") as err:
        output = PlainOutput(out, err, is_separate=True)
        output.write("stdout", b"\x00\xff\r\nno end")
        output.write("console", b"unikernel: exited with status 0\r\n")
        output.write("stderr", b"oh\r\n")
        out.seek(0)
        err.seek(0)
        assert out.read() == b"\x00\xff\r\nno end"
        assert err.read() == b"unikernel: exited with status 0\noh\r\n"


def test_where_all_goes_to_one_place_the_console_begins_a_line_of_its_own(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b", buffering=0) as log, os.fdopen(os.dup(log.fileno()), "wb") as other:
        output = PlainOutput(log, other, is_separate=True)
        output.write("stdout", b"no end")
        output.write("console", b"unikernel: exited with status 0\r\n")
        output.write("console", b"more\n")
        log.seek(0)
        assert log.read() == b"no end\nunikernel: exited with status 0\nmore\n"


def test_a_console_that_is_all_there_is_goes_to_standard_output() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    PlainOutput(out, err, is_separate=False).write("console", b"one\r\n")
    assert (out.getvalue(), err.getvalue()) == (b"one\r\n", b"")


def test_lines_of_json_are_whole_whatever_comes_in_pieces() -> None:
    target = io.BytesIO()
    output = JsonOutput(target, "ab" * 32, lambda: 1700000000.5)
    output.write("stdout", b"one\ntw")
    output.write("stderr", b"a\xffb\r\n")
    output.write("stdout", "o ü\n\n".encode())
    output.write("console", b"no end")
    output.end()
    output.end()
    lines = [json.loads(line) for line in target.getvalue().splitlines()]
    expected = [("stdout", "one"), ("stderr", "a\ufffdb"), ("stdout", "two ü"), ("stdout", ""), ("console", "no end")]
    assert [(line["stream"], line["message"]) for line in lines] == expected
    assert lines[0] == {"time": "2023-11-14T22:13:20.500000Z", "stream": "stdout", "image": f"sha256:{'ab' * 32}", "message": "one"}


def test_a_line_without_end_is_cut() -> None:
    target = io.BytesIO()
    output = JsonOutput(target, "", lambda: 0.0)
    output.write("stdout", b"x" * 150_000)
    output.write("stdout", b"\n")
    lengths = [len(json.loads(line)["message"]) for line in target.getvalue().splitlines()]
    assert (sum(lengths), max(lengths)) == (150_000, 65536)
