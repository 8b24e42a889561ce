"""Compiling the kernel of each series from nothing, and the size of an image with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.image_sizes import sizes
from unikernel.image.spec import ImageSpec
from unikernel.linux.kit import Kit
from unikernel.progress import PROGRESS_VARIABLE
from unikernel.testing.images import link_small_image
from unikernel.testing.kernel_sources import RELEASES, kernel_source

_COUNT = re.compile(r"compiled ([\d,]+) of ([\d,]+) files, linking")
_TOOLS = ("--make=make", "--tar=tar")


def measure_kernels(scratch: Path) -> dict[str, Any]:
    """Return for each series: seconds of the steps, wall and processor, files compiled, and sizes of a small image.

    The steps run once, without any cache. The source is downloaded where this machine lacks it, which is not measured.
    """
    figures = {}
    for series in RELEASES:
        directory = scratch / series
        directory.mkdir()
        source = f"--source={kernel_source(series)}"
        steps = {
            "read_options": ["pack-kconfig", source, "--tar=tar", "--output=kconfig.tar"],
            "configure": ["configure-kernel", "--kconfig=kconfig.tar", *_TOOLS, "--output=kernel.config"],
            "compile": ["build-kit", source, "--config=kernel.config", *_TOOLS, "--output=kit"],
        }
        measured: dict[str, Any] = {name: _measure(step, directory) for name, step in steps.items()}
        counted = _COUNT.search((directory / "progress").read_text())
        kit = Kit.load(directory / "kit")
        link_small_image(directory, kit, "image.elf", ImageSpec(name="image"))
        figures[series] = {
            "version": kit.version,
            "compiler": kit.tools["gcc"],
            **measured,
            "files": int(counted[1].replace(",", "")) if counted else 0,
            "size": sizes(directory / "image.elf"),
        }
    return figures


def _measure(step: Sequence[str], directory: Path) -> dict[str, float]:
    """Seconds of a step of the toolkit, with all of its processes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), PROGRESS_VARIABLE: "progress"}
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "unikernel.linux", *step], cwd=directory, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{step[0]} failed")
    wall = time.monotonic() - start
    return {"wall": round(wall, 1), "user": round(usage.ru_utime, 1), "system": round(usage.ru_stime, 1)}
