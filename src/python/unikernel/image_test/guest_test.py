from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from unikernel.image_test import pytest_in_guest
from unikernel.image_test.console import Console


def _report(content: bytes, status: int = 0) -> bytes:
    stream = io.StringIO()
    pytest_in_guest.write_report(stream, content, status)
    return stream.getvalue().encode()


def test_a_large_report_comes_through_among_other_lines() -> None:
    content = random.Random(0).randbytes(3 << 20)
    lines = _report(content, 1).splitlines(keepends=True)
    console = Console(["^a kernel's line$"])
    console.write("stdout", b"no end of line")
    for number, line in enumerate(lines):
        console.write("stdout", line.replace(b"\n", b"\r\n"))
        if number % 1000 == 0:
            console.write("console", b"a kernel's line\r\n")
    assert console.report.is_complete
    assert console.report.content() == content
    assert console.report.status == 1
    # Nobody sees it.
    assert b"@@" not in console.content
    assert console.content.startswith(b"no end of line\r\n")
    assert console.found("^a kernel's line$")


def test_a_report_that_is_not_whole_is_none() -> None:
    lines = _report(random.Random(0).randbytes(10_000)).splitlines(keepends=True)
    console = Console()
    with pytest.raises(ValueError, match="no report came"):
        console.report.content()
    console.write("console", b"".join([*lines[:3], *lines[4:]]))
    with pytest.raises(ValueError, match="1 of the .* lines of the report did not come through"):
        console.report.content()
    other = Console()
    other.write("console", b"".join([*lines[:2], lines[2].replace(b"A", b"B"), *lines[3:]]))
    with pytest.raises(ValueError, match="did not come through"):
        other.report.content()


def test_pytest_runs_beside_an_application_and_reports(tmp_path: Path) -> None:
    """As in an image: the runner and its settings are in a directory of their own, the tests in the application's."""
    application, runner = tmp_path / "app", tmp_path / "tests"
    (application / "service").mkdir(parents=True)
    runner.mkdir()
    (application / "service/__init__.py").touch()
    (application / "service/code.py").write_text("ANSWER = 42\n")
    (application / "service/code_test.py").write_text(
        "import os, sys\n"
        "from service.code import ANSWER\n"
        "def test_good():\n    assert ANSWER == 42\n"
        f"    assert {str(runner.resolve())!r} not in [os.path.realpath(path) for path in sys.path]\n"
        "def test_bad():\n    print('no end of line', end='')\n    assert ANSWER == 43\n"
    )
    (runner / "run.py").write_text(Path(pytest_in_guest.__file__).read_text())
    settings = {"root": str(application), "arguments": ["-p", "no:cacheprovider", "service/code_test.py"], "path": []}
    (runner / "pytest.json").write_text(json.dumps(settings))
    ran = subprocess.run(
        [sys.executable, "-s", "-B", runner / "run.py"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert ran.returncode == 1
    console = Console()
    console.write("console", ran.stdout)
    assert console.report.status == 1
    suite = ElementTree.fromstring(console.report.content()).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert {case.get("name") for case in suite.iter("testcase")} == {"test_good", "test_bad"}
    assert b"assert 42 == 43" in console.content
    assert b"@@" not in console.content
