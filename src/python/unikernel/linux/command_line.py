"""The kernel parameters that are compiled into an image."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence

from unikernel.linux.pid1 import INIT_PATH


def command_line(parameters: Sequence[str]) -> str:
    """What every image has (the lines of `kernel/cmdline` that are no comments), PID 1, and `parameters`."""
    text = (importlib.resources.files("unikernel.linux") / "kernel" / "cmdline").read_text()
    base = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return " ".join([*base, f"rdinit={INIT_PATH}", *parameters])
