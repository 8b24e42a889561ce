"""Runs the programs of this machine that make images."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from unikernel.errors import UnikernelError


def run_tool(
    argv: Sequence[str], purpose: str, *, standard_input: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Runs a program; raises UnikernelError with the end of what it printed when it fails or is not there."""
    try:
        with open(standard_input or os.devnull, "rb") as stream:
            result = subprocess.run(
                argv,
                stdin=stream,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"LC_ALL": "C", **(environment or {})},
            )
    except OSError as error:
        raise UnikernelError(f"Cannot {purpose}: {argv[0]} cannot be run ({error.strerror}).") from error
    if result.returncode != 0:
        printed = "\n".join(result.stdout.decode(errors="replace").strip().splitlines()[-20:])
        raise UnikernelError(f"Cannot {purpose}: {argv[0]} ended with status {result.returncode}.\n{printed}")
