from __future__ import annotations

import pytest

from pants_unikernel.goals.readiness import first_reason, table

_PEX = """\
Process 'Building app.pex with 1 requirement: nothing==1' failed with exit code 1.
stdout:

stderr:
pid 1 -> /venv/bin/python -m pip download exited with 1 and STDERR:
ERROR: Could not find a version that satisfies the requirement nothing==1 (from versions: none)
ERROR: No matching distribution found for nothing==1
"""


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("a:b: a:b: the program is for i386. Compile it\\nfor x86_64.", "the program is for i386"),
        ("It is short", "It is short"),
        ("Version 1.2 of it is not there", "Version 1.2 of it is not there"),
        (
            _PEX,
            "Building app.pex with 1 requirement: nothing==1 failed: Could not find a version that satisfies the requirement nothing==1 "
            "(from versions: none)",
        ),
        ("Process 'Link a' failed with exit code 2.\nstdout:\n\nstderr:\nno\n", "Link a failed: no"),
        ("Process 'Link a' failed with exit code 2.\nstdout:\n\nstderr:\n\n", "Link a failed"),
        ("word " * 60, "word " * 31 + "word ..."),
    ],
)
def test_the_first_reason_is_one_short_line(problem: str, reason: str) -> None:
    assert first_reason(problem.replace("\\n", "\n"), "a:b") == reason


def test_columns_are_aligned_and_a_reason_takes_its_space() -> None:
    rows = [
        ("service", "on", "verdict", "also", "why"),
        ("a", "linux", "cannot", "-", "a long reason, at length"),
        ("bcd", "x", "ready", "y"),
    ]
    assert list(table(rows)) == [
        "service  on     verdict  also  why",
        "a        linux  cannot   -     a long reason, at length",
        "bcd      x      ready    y",
    ]
