"""What an image starts instead of its application to run its tests: pytest, whose report goes to the console. It is copied into the
image, and imports nothing of this package: see guest.py for the report's form.

`pytest.json` beside it: `root` (the application's directory), `arguments` (pytest's), and `path` (directories for sys.path, after those
of the application).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tempfile
import zlib
from typing import TextIO

_MARK = "@@unikernel-report"
# As long as lines of base64 are in mail; a console takes any.
_LINE = 960


def main() -> int:
    beside = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(beside, "pytest.json"), encoding="utf-8") as stream:
        settings = json.load(stream)
    # As where the application starts: its directory is first, and this one is not there.
    sys.path[0] = settings["root"]
    sys.path += settings["path"]
    os.chdir(settings["root"])
    report = os.path.join(tempfile.gettempdir(), "unikernel-report.xml")

    # The image has it; the toolkit does not need it where it is installed.
    import pytest  # pants: no-infer-dep

    status = int(pytest.main([*settings["arguments"], f"--junit-xml={report}"]))
    sys.stdout.flush()
    sys.stderr.flush()
    content = b""
    if os.path.exists(report):
        with open(report, "rb") as stream:
            content = stream.read()
    # Where pytest has put nothing in its place.
    write_report(sys.__stdout__, content, status)
    return status


def write_report(stream: TextIO, content: bytes, status: int) -> None:
    text = base64.b64encode(zlib.compress(content, 9)).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    # The start of a line, whatever a test has left there.
    stream.write("\n")
    for number, line in enumerate(lines):
        stream.write(f"{_MARK} {number} {line}\n")
    stream.write(f"{_MARK} end {len(lines)} {hashlib.sha256(content).hexdigest()} {status}\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
