from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from unikernel.elf import read_elf_file
from unikernel.rootfs.needs import Capability, Need, module_name, program_needs, tree_needs
from unikernel.rootfs.python_runtime import PythonRuntime
from unikernel.testing.programs import compile_c, program, tiny_program
from unikernel.testing.python import linked_runtime, write_tree

_SPAWNS = '#include <unistd.h>\nint main(void) { return fork() ? 0 : execl("/bin/true", "true", (char *)0); }\n'


def _of_program(path: Path, **options: bool) -> list[Need]:
    return program_needs(path, read_elf_file(path), "a", **options)


def test_a_dynamic_program_imports_what_it_needs(tmp_path: Path) -> None:
    assert _of_program(compile_c(tmp_path / "a", _SPAWNS)) == [
        Need(Capability.C_LIBRARY, "__libc_start_main", "a", "imported", certain=True),
        Need(Capability.EXEC, "execl", "a", "imported", certain=True),
        Need(Capability.FORK, "fork", "a", "imported", certain=True),
    ]
    # Stripped, it imports the same.
    subprocess.run(["strip", tmp_path / "a"], check=True)
    assert {need.what for need in _of_program(tmp_path / "a")} == {"__libc_start_main", "execl", "fork"}
    assert not any(need.certain for need in _of_program(tmp_path / "a", certain=False))


def test_what_is_linked_into_a_static_program(tmp_path: Path) -> None:
    needs = {need.what: need for need in _of_program(compile_c(tmp_path / "a", _SPAWNS, "-static"))}
    assert {"execl", "fork"} <= set(needs)
    assert needs["fork"] == Need(Capability.FORK, "fork", "a", "linked into", certain=True)


@pytest.mark.parametrize("flags", [[], ["-static"], ["-static-pie", "-fPIE"]])
def test_a_program_that_does_little_needs_little(tmp_path: Path, flags: list[str]) -> None:
    assert {need.capability for need in _of_program(program(tmp_path / "a", *flags))} == {Capability.C_LIBRARY}


def test_a_program_without_symbols_says_nothing(tmp_path: Path) -> None:
    tiny = tiny_program(tmp_path / "a")
    subprocess.run(["strip", tiny], check=True)
    assert _of_program(tiny) == []


_SOURCES = {
    "main.py": "import service\n",
    "service/__init__.py": "",
    "service/jobs.py": "from subprocess import run\n",
    "service/work.py": "import multiprocessing.pool as pools\n",
    "service/old.py": "import os as system\n\ndef f():\n    system.fork()\n    system.execv('a', [])\n    system.getpid()\n",
    "service/direct.py": "from os import popen\nfrom concurrent.futures import ThreadPoolExecutor\n",
    "service/later.py": "def f():\n    import concurrent.futures\n    concurrent.futures.ProcessPoolExecutor()\n",
    "service/web.py": "import asyncio\nimport socket\nasyncio.create_subprocess_shell\nsocket.AF_INET6\n",
    "service/typed.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import subprocess\nelse:\n    import pty\n",
    "service/versions.py": (
        "import sys\nif sys.version_info < (3,):\n    import subprocess\nelif sys.version_info >= (3, 5):\n    import ctypes\n"
        "else:\n    import multiprocessing\nif sys.version_info[0] == 2:\n    import threading\n"
    ),
    "service/words.py": "subprocess = 'subprocess and fork'\nfork = lambda: subprocess\nfork()\n",
    "service/own.py": "from . import subprocess\nfrom .multiprocessing import fork\n",
    "service/broken.py": "import subprocess\nthis is no Python\n",
}


def test_python_sources_by_module(tmp_path: Path) -> None:
    runtime = linked_runtime(tmp_path / "runtime")
    needs = tree_needs(write_tree(tmp_path / "sources", _SOURCES), runtime, certain=True)
    assert [(need.capability.value, need.what, need.by, need.how) for need in needs] == [
        ("dynamic_loading", "ctypes", "service.versions", "imported"),
        ("exec", "os.execv", "service.old", "used"),
        ("fork", "asyncio.create_subprocess_shell", "service.web", "used"),
        ("fork", "concurrent.futures.ProcessPoolExecutor", "service.later", "used"),
        ("fork", "multiprocessing", "service.work", "imported"),
        ("fork", "os.fork", "service.old", "used"),
        ("fork", "os.popen", "service.direct", "imported"),
        ("fork", "pty", "service.typed", "imported"),
        ("fork", "subprocess", "service.jobs", "imported"),
        ("ipv6", "socket.AF_INET6", "service.web", "used"),
        ("threads", "concurrent.futures.ThreadPoolExecutor", "service.direct", "imported"),
        ("threads", "threading", "service.versions", "imported"),
    ]
    assert all(need.certain for need in needs)


def test_most_sources_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = linked_runtime(tmp_path / "runtime")
    monkeypatch.setattr(PythonRuntime, "run_worker", None)
    assert tree_needs(write_tree(tmp_path / "sources", {"a.py": "import json\n"}), runtime, certain=True) == []


@pytest.mark.parametrize(
    ("path", "name"), [("a.py", "a"), ("a/b/c.py", "a.b.c"), ("a/__init__.py", "a"), ("__init__.py", "__init__")]
)
def test_modules_are_called_as_they_are_imported(path: str, name: str) -> None:
    assert module_name(path) == name


def test_needs_are_written_down_and_read_back() -> None:
    need = Need(Capability.IPV6, "socket.AF_INET6", "a.b", "used", certain=False)
    assert Need.of_document(need.to_document()) == need
