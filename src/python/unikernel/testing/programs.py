"""ELF files for tests, made with the machine's own tools."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

MAIN = "int main(void) { return 0; }\n"
# Offsets in the ELF header: gABI, "ELF Header".
_E_TYPE, _E_MACHINE = 16, 18
EM_AARCH64 = 183
ET_CORE = 4


def compile_c(output: Path, source: str, *flags: str, compiler: str = "gcc") -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([compiler, "-x", "c", "-", "-x", "none", "-o", str(output), *flags], input=source.encode(), check=True)
    return output


def program(output: Path, *flags: str, compiler: str = "gcc") -> Path:
    return compile_c(output, MAIN, *flags, compiler=compiler)


def tiny_program(output: Path) -> Path:
    """A static program of a few hundred bytes: quick to make and to copy."""
    return compile_c(output, "void _start(void) { for (;;) ; }\n", "-nostdlib", "-static", "-Wl,--build-id=none")


def shared_library(output: Path, function: str, *flags: str, needs: Sequence[Path] = (), soname: str | None = None) -> Path:
    """A library without the C library that needs the libraries `needs`, whatever it calls."""
    return compile_c(
        output,
        f"int {function}(void) {{ return 7; }}\n",
        "-shared",
        "-fPIC",
        "-nostdlib",
        f"-Wl,-soname,{soname or output.name}",
        "-Wl,--no-as-needed",
        *map(str, needs),
        *flags,
    )


def linked_program(output: Path, libraries: Sequence[Path], *flags: str) -> Path:
    return program(output, "-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", *map(str, libraries), *flags)


def for_another_machine(source: Path, output: Path, machine: int = EM_AARCH64) -> Path:
    return _with_half_word(source, output, _E_MACHINE, machine)


def of_another_type(source: Path, output: Path, elf_type: int) -> Path:
    return _with_half_word(source, output, _E_TYPE, elf_type)


def _with_half_word(source: Path, output: Path, offset: int, value: int) -> Path:
    data = bytearray(source.read_bytes())
    data[offset : offset + 2] = value.to_bytes(2, "little")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(data)
    output.chmod(0o755)
    return output
