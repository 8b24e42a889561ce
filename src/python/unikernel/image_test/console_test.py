from __future__ import annotations

import io
import threading
import time

from unikernel.image_test.console import Console


def test_lines_are_looked_at_without_what_terminals_make_of_them() -> None:
    console = Console(["^ready$", "^two words$"], ["Traceback"])
    console.write("console", b"rea")
    assert console.found("^ready$") is None
    console.write("console", b"dy\r\n\x1b[1;31mtwo\x1b[0m words\n\xff")
    assert (console.found("^ready$"), console.found("^two words$"), console.found("Traceback")) == ("ready", "two words", None)
    console.finish()
    assert console.content == b"ready\r\n\x1b[1;31mtwo\x1b[0m words\n\xff\n"
    assert console.last_lines(2) == ["two words", "\N{REPLACEMENT CHARACTER}"]


def test_streams_do_not_mix_within_a_line() -> None:
    console = Console(["^standard output$"])
    console.write("stdout", b"standard ")
    console.write("console", b"[0.1] kernel\n")
    console.write("stdout", b"output\n")
    assert console.content == b"[0.1] kernel\nstandard output\n"
    assert console.found("^standard output$") == "standard output"


def test_the_last_line_counts_though_it_does_not_end() -> None:
    console = Console(["^password: $"], ["$ Error"])
    console.write("console", b"password: ")
    assert console.found("^password: $") is None
    # A prompt is waited at.
    assert console.wait_for("^password: $", 5)
    console.finish()
    assert console.content == b"password: \n"


def test_a_line_is_waited_for() -> None:
    console = Console(["b"])
    threading.Timer(0.1, console.write, ("console", b"a\nb\n")).start()
    start = time.monotonic()
    assert console.wait_for("b", 10)
    assert time.monotonic() - start < 5
    assert not console.wait_for("c", 0.05)


def test_what_is_too_much_is_left_out_and_looked_at() -> None:
    console = Console(["the end"])
    for _ in range(17):
        console.write("console", b"x" * (1 << 20) + b"\n")
    console.write("console", b"the end\n")
    console.finish()
    assert console.found("the end")
    assert len(console.content) < 17 << 20
    assert console.content.endswith(b" bytes more were not kept)\n")


def test_it_is_passed_on_line_by_line() -> None:
    live = io.BytesIO()
    console = Console(live=live)
    console.write("console", b"a\nb")
    assert live.getvalue() == b"a\n"
