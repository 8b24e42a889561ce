from __future__ import annotations

from unikernel.library_os.description import Exit, ExitReport
from unikernel.run.console_watch import ConsoleWatch


def _watched(*blocks: bytes) -> ConsoleWatch:
    watch = ConsoleWatch(Exit(ExitReport.CONSOLE, status=r"exit\((\d+)\)", failure="panic: .*"))
    for block in blocks:
        watch.feed(block)
    watch.end()
    return watch


def test_a_line_in_pieces_and_without_an_end() -> None:
    assert _watched(b"x\nex", b"it(2", b"58) called").status == 2


def test_the_first_failure_and_the_last_status_count() -> None:
    watch = _watched(b"[0.1] panic: one\r\npanic: two\nexit(1)\nexit(3)\n")
    assert (watch.failure, watch.status) == ("panic: one", 3)


def test_a_line_that_never_ends_is_not_kept() -> None:
    watch = _watched(*[b"x" * 100_000] * 5, b"exit(7)\n")
    assert watch.status == 7
    assert _watched(b"nothing").status is None
