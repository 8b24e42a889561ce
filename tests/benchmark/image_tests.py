"""What tests of images cost: beside QEMU itself, and many at once."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

from pants_project import PantsProject

_IMAGES = 20
_REPETITIONS = 5
# "✓ many:test-3 succeeded in 1.23s."
_RESULT = re.compile(r"^\S+ many:test-\d+ (succeeded|failed)", re.MULTILINE)


def measure_overhead(image: Path, scratch: Path, runs: int, seconds_of_qemu: Callable[[], float]) -> dict[str, float]:
    """Seconds of `unikernel test` for a line on the console, from the start of its process to the end, against those of a bare QEMU to the
    same line; in turn.
    """
    expectations = scratch / "expectations.json"
    expectations.write_text(json.dumps({"console": ["argument 0"], "timeout": 120}))
    command = [sys.executable, "-m", "unikernel", "test", str(image), f"--expect={expectations}", "--accel=tcg", "--trusted"]
    command += [f"--report={scratch / 'report.xml'}", f"--console={scratch / 'console.log'}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    bare, tested = [], []
    for _ in range(runs):
        bare.append(seconds_of_qemu())
        start = time.monotonic()
        ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        tested.append(time.monotonic() - start)
        if ran.returncode != 0:
            raise SystemExit(ran.stdout.decode(errors="replace"))
    return {
        "bare_qemu_first_line": round(statistics.median(bare), 3),
        "test_process": round(statistics.median(tested), 3),
        "overhead": round(statistics.median(ours - theirs for ours, theirs in zip(tested, bare)), 3),
    }


def measure_many(project: PantsProject) -> dict[str, Any]:
    """20 images of two services, each with an image and a test of its own, all at once, five times: every result counts."""
    lines = []
    for number in range(_IMAGES):
        # Some are slow to answer: Python's.
        app, memory = ("greeter", "128M") if number % 5 == 0 else ("hello", "24M")
        lines.append(
            f'unikernel_image(name="image-{number}", app="//src/services/{app}", memory="{memory}", ports=["8080"], env={{"N": "{number}"}})'
        )
        probe = '{"path": "/greet", "body": "Hello"}'
        lines.append(
            f'unikernel_test(name="test-{number}", image=":image-{number}", http=[{probe}], console=["listening on port 8080"], timeout=240)'
        )
    project.write("many/BUILD", "\n".join(lines) + "\n")
    # The images are made before: only tests are measured.
    project.succeed("--unikernel-run-accel=tcg", "test", "many::")
    seconds, results = [], []
    for _ in range(_REPETITIONS):
        start = time.monotonic()
        _, printed = project.run("--unikernel-run-accel=tcg", "test", "--force", "many::")
        seconds.append(time.monotonic() - start)
        results += _RESULT.findall(printed)
    return {
        "images": _IMAGES,
        "repetitions": _REPETITIONS,
        "tests_run": len(results),
        "tests_failed": results.count("failed"),
        "seconds_for_all": {"median": round(statistics.median(seconds), 1), "most": round(max(seconds), 1)},
    }
