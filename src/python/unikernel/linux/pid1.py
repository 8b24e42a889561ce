"""Compiles PID 1 from the C sources in `init/`."""

from __future__ import annotations

import importlib.resources
import subprocess
from collections.abc import Mapping
from pathlib import Path

from unikernel.errors import UnikernelError

# Where it is in an image, and its configuration beside it. Out of the application's way.
INIT_PATH = "/.unikernel/init"
INIT_CONFIGURATION_PATH = "/.unikernel/config"
_FLAGS = (
    *("-std=c11", "-D_GNU_SOURCE", "-Os", "-static", "-no-pie", "-fno-pie", "-fstack-protector-strong"),
    *("-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    *("-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,-z,norelro", "-Wl,-z,noexecstack", "-Wl,-z,noseparate-code", "-s"),
)


def build_init(compiler: str, output: Path, *, environment: Mapping[str, str], scratch: Path) -> None:
    """Raises UnikernelError with the compiler's words when it fails: most often a C library that cannot be linked statically."""
    sources = importlib.resources.files("unikernel.linux") / "init"
    # Copied, so that the package may be in a zip file, and compiled by relative names: no path gets into the program.
    names = []
    for file in sorted(sources.iterdir(), key=lambda file: file.name):
        if file.name.endswith((".c", ".h")) and not file.name.endswith("_test.c"):
            (scratch / file.name).write_bytes(file.read_bytes())
            names += [file.name] if file.name.endswith(".c") else []
    command = [compiler, *_FLAGS, "-o", str(output.absolute()), *names]
    try:
        result = subprocess.run(
            command, cwd=scratch, env={**environment, "LC_ALL": "C"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise UnikernelError(f"PID 1 cannot be compiled: {compiler} cannot be run ({error.strerror}).") from error
    if result.returncode != 0:
        printed = "\n".join(result.stdout.decode(errors="replace").strip().splitlines()[-15:])
        raise UnikernelError(f"PID 1 does not compile with {compiler}:\n{printed}")
