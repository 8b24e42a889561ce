"""Runs PID 1's own tests, which are in C beside its sources: see init/README.md."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_SOURCES = Path(__file__).with_name("init")
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra")
_SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# Test -> what it is linked with.
_TESTS = {
    "config_test": ("config.c", "ipv4.c", "text.c", "words.c"),
    "core_file_test": ("core_file.c", "memory.c", "program_file.c", "text.c"),
    "dhcp_packet_test": ("dhcp_packet.c", "ipv4.c", "text.c"),
    "words_test": ("words.c", "program_file.c"),
}


@pytest.fixture(scope="module")
def sanitizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The flags, where the compiler has their libraries."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    compiled = subprocess.run(
        ["gcc", *_SANITIZERS, "-x", "c", "-", "-o", str(program)],
        input=b"int main(void) { return 0; }",
        stderr=subprocess.DEVNULL,
    )
    return _SANITIZERS if compiled.returncode == 0 and subprocess.run([str(program)]).returncode == 0 else ()


def test_every_c_test_is_run() -> None:
    assert sorted(path.stem for path in _SOURCES.glob("*_test.c")) == sorted(_TESTS)


@pytest.mark.parametrize("name", sorted(_TESTS))
def test_c(name: str, tmp_path: Path, sanitizers: tuple[str, ...]) -> None:
    sources = [str(_SOURCES / source) for source in (f"{name}.c", *_TESTS[name])]
    subprocess.run(["gcc", *_FLAGS, *sanitizers, "-o", str(tmp_path / name), *sources], check=True)
    result = subprocess.run([str(tmp_path / name)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    assert result.returncode == 0, result.stdout
