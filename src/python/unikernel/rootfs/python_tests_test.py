from __future__ import annotations

import json
from pathlib import Path

import pytest

from unikernel import cli
from unikernel.errors import UnikernelError
from unikernel.rootfs.layer import LayerIndex
from unikernel.rootfs.python_runtime import PythonRuntime, write_facts
from unikernel.rootfs.python_tests import SITE_PACKAGES, TESTS_DIRECTORY, PytestSettings, build_python_tests_layer
from unikernel.testing.python import SERIES, linked_runtime, pex_info, wheel, write_tree


@pytest.fixture()
def runtime(tmp_path: Path) -> PythonRuntime:
    return linked_runtime(tmp_path / "runtime")


def _pex(root: Path, *wheels: dict[str, str]) -> Path:
    files = {"PEX-INFO": pex_info(), "__main__.py": ""}
    for files_of_wheel in wheels:
        files.update(files_of_wheel)
    return write_tree(root, files)


def test_tests_are_beside_the_application_and_pytest_is_in_a_place_of_its_own(tmp_path: Path, runtime: PythonRuntime) -> None:
    sources = write_tree(tmp_path / "sources", {"service/code_test.py": "def test(): pass\n", "service/data.txt": "data"})
    requirements = _pex(tmp_path / "requirements.pex", wheel("shared", {"shared.py": "A = 1\n"}), wheel("Own_One", {"own.py": ""}))
    tool = _pex(
        tmp_path / "pytest.pex", wheel("pytest", {"pytest.py": ""}), wheel("shared", {"shared.py": "A = 2\n"}, version="2.0")
    )
    settings = PytestSettings(("-q", "service/code_test.py"))
    layer, index = build_python_tests_layer(
        sources, [requirements, tool], settings, runtime, ["own.one-3.0-py3-none-any.whl"], _scratch(tmp_path)
    )
    files = set(layer.regular_files())
    assert {
        "/app/service/code_test.py",
        "/app/service/data.txt",
        f"{SITE_PACKAGES}/pytest.py",
        f"{TESTS_DIRECTORY}/run.py",
    } <= files
    # The first that has it, and none that the application has.
    assert layer.open(f"{SITE_PACKAGES}/shared.py").read() == b"A = 1\n"
    assert f"{SITE_PACKAGES}/own.py" not in files
    assert json.loads(layer.open(f"{TESTS_DIRECTORY}/pytest.json").read()) == {
        "arguments": ["-q", "service/code_test.py"],
        "path": [SITE_PACKAGES],
        "root": "/app",
    }
    assert index.facts["start_instead"] == {
        "program": f"/usr/bin/python{SERIES}",
        "arguments": [f"python{SERIES}", "-s", "-B", f"{TESTS_DIRECTORY}/run.py"],
        "default_arguments": [],
    }


def _scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def test_without_pytest_nothing_runs(tmp_path: Path, runtime: PythonRuntime) -> None:
    sources = write_tree(tmp_path / "sources", {"a_test.py": ""})
    with pytest.raises(UnikernelError, match="There is no pytest among the requirements"):
        build_python_tests_layer(sources, [_pex(tmp_path / "a.pex")], PytestSettings(()), runtime, [], _scratch(tmp_path))


def test_a_distribution_that_does_not_fit_the_interpreter_is_named(tmp_path: Path, runtime: PythonRuntime) -> None:
    sources = write_tree(tmp_path / "sources", {"a_test.py": ""})
    pex = _pex(tmp_path / "a.pex", wheel("pytest", {}, tag="cp27-cp27m-win32"))
    with pytest.raises(UnikernelError, match="No wheel of pytest fits the interpreter"):
        build_python_tests_layer(sources, [pex], PytestSettings(()), runtime, [], _scratch(tmp_path))


def test_the_step_writes_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Its facts are read from a file.
    runtime = linked_runtime(tmp_path / "runtime")
    write_facts(runtime.root, runtime.facts)
    write_tree(tmp_path / "sources", {"a_test.py": ""})
    _pex(tmp_path / "pytest.pex", wheel("pytest", {"pytest.py": ""}))
    (tmp_path / "settings.json").write_text('{"arguments": ["a_test.py"]}')
    command = ["python-tests-layer", "--sources=sources", "--pex=pytest.pex", "--settings=settings.json", "--runtime=runtime"]
    assert cli.main([*command, "--output=tests.cpio"]) == 0
    index = LayerIndex.read(tmp_path / "tests.json")
    assert "/app/a_test.py" in {entry.path for entry in index.entries}
    first = (tmp_path / "tests.cpio").read_bytes()
    assert cli.main([*command, "--output=tests.cpio"]) == 0
    assert (tmp_path / "tests.cpio").read_bytes() == first
