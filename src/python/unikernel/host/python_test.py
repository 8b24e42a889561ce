from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.host import python as host_python
from unikernel.host.python import PythonDescription, capture_python, describe_python, wheel_tags
from unikernel.rootfs.python_runtime import PythonRuntime
from unikernel.testing.programs import compile_c
from unikernel.testing.python import SERIES


@pytest.fixture(scope="module")
def description() -> PythonDescription:
    return describe_python(Path(sys.executable))


@pytest.fixture(scope="module")
def captured(description: PythonDescription, tmp_path_factory: pytest.TempPathFactory) -> PythonRuntime:
    root = tmp_path_factory.mktemp("captured")
    capture_python(description, root)
    return PythonRuntime.load(root)


def _run(runtime: PythonRuntime, code: str) -> str:
    result = subprocess.run(
        [*runtime.command(), "-S", "-B", "-c", code],
        env={"PYTHONHOME": str(runtime.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_facts_are_those_of_the_interpreter(description: PythonDescription) -> None:
    facts = description.facts
    assert (facts.series, facts.cache_tag, facts.machine) == (SERIES, sys.implementation.cache_tag, "x86_64")
    assert facts.version.startswith(f"{SERIES}.")
    assert facts.site_packages in (f"/usr/lib/python{SERIES}/site-packages", "/usr/lib/python3/dist-packages")
    assert "py3-none-any" in facts.tags
    assert facts.tags[0].startswith(f"cp{SERIES.replace('.', '')}-")
    assert facts.loader == "/lib64/ld-linux-x86-64.so.2"
    assert {"libc.so.6", "libgcc_s.so.1"} <= set(facts.libraries)


def test_the_tags_of_an_interpreter_are_known_without_running_it(description: PythonDescription) -> None:
    # Those of an older one, which cannot import `packaging`, come from here.
    assert tuple(wheel_tags(SERIES, sys.abiflags)) == description.facts.tags
    old = wheel_tags("3.8", "")
    assert old[0].startswith("cp38-cp38-") and {"cp38-none-any", "py38-none-any", "py3-none-any"} <= set(old)
    assert not any(tag.startswith("cp39") for tag in old)
    assert [tag for tag in wheel_tags("3.8", "d") if tag.startswith("cp38-cp38")][0].startswith("cp38-cp38d-")


def test_a_description_survives_a_round_trip_and_is_the_same_again(description: PythonDescription) -> None:
    assert PythonDescription.from_json(description.to_json()) == description
    assert describe_python(Path(sys.executable)).to_json() == description.to_json()


def test_files_are_described_by_their_digest(description: PythonDescription) -> None:
    files = {file.destination: file for file in description.files}
    described = files[f"lib/python{SERIES}/os.py"]
    assert described.sha256 == hashlib.sha256(Path(os.__file__).read_bytes()).hexdigest()
    assert f"bin/python{SERIES}" in files


def test_what_cannot_run_in_an_image_is_left_out(description: PythonDescription) -> None:
    names = {file.destination[len(f"lib/python{SERIES}/") :] for file in description.files}
    for directory in ("test", "idlelib", "tkinter", "ensurepip", "site-packages", "dist-packages", "venv", "curses"):
        assert not [name for name in names if name.startswith(f"{directory}/")], directory
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert not [name for name in names if name.startswith(("lib-dynload/_test", "lib-dynload/_tkinter"))]
    assert {"json/decoder.py", "unittest/case.py", "encodings/utf_8.py", "sqlite3/__init__.py"} <= names


def test_the_captured_interpreter_runs_with_nothing_but_captured_files(captured: PythonRuntime) -> None:
    code = "import json, sys, ssl, ctypes, _sqlite3; print(json.dumps([sys.prefix, ssl.__file__, sys.version_info[:2]]))"
    prefix, ssl_file, version = json.loads(_run(captured, code))
    assert prefix == str(captured.root)
    assert ssl_file == str(captured.root / f"lib/python{SERIES}/ssl.py")
    assert version == list(sys.version_info[:2])


def test_the_captured_libraries_are_the_ones_that_are_loaded(captured: PythonRuntime) -> None:
    maps = _run(captured, "import ssl, sqlite3, ctypes, lzma, bz2; print(open('/proc/self/maps').read())")
    libraries = {line.split()[-1] for line in maps.splitlines() if ".so" in line}
    assert libraries
    assert [path for path in libraries if not path.startswith(str(captured.root))] == []


# Prints the modules that cannot be imported, with the reason: those named as arguments, or else all of the standard library.
_IMPORT_SCRIPT = """
import importlib, json, os, pkgutil, sys, warnings
warnings.simplefilter("ignore")
root = os.path.dirname(os.__file__)
failed = {}
def names():
    walk = pkgutil.walk_packages([root, os.path.join(root, "lib-dynload")], onerror=lambda name: failed.update({name: "package"}))
    for module in walk:
        # They act when they are imported.
        if module.name.split(".")[-1] not in ("__main__", "antigravity", "this") and "-" not in module.name:
            yield module.name
for name in sys.argv[1:] or names():
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = "%s: %s" % (type(error).__name__, error)
print("\\n" + json.dumps(failed))
"""


def test_what_is_left_out_is_not_needed_by_what_is_left_in(captured: PythonRuntime) -> None:
    failed = json.loads(_run(captured, _IMPORT_SCRIPT).splitlines()[-1])
    # Modules of other systems and of libraries that this interpreter was built without fail in the installed one too.
    command = [sys.executable, "-S", "-B", "-c", _IMPORT_SCRIPT, *failed]
    installed = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
    lost = {name: reason for name, reason in failed.items() if name not in installed}
    # The interactive interpreter of 3.13 is curses' and readline's.
    assert {name: reason for name, reason in lost.items() if name.split(".")[0] != "_pyrepl"} == {}


def test_a_change_after_the_description_is_noticed(description: PythonDescription, tmp_path: Path) -> None:
    first = description.files[0]
    with pytest.raises(UnikernelError, match="changed while the interpreter was captured"):
        capture_python(replace(description, files=(replace(first, sha256="0" * 64),)), tmp_path / "changed")
    with pytest.raises(UnikernelError, match="/nonexistent/x cannot be captured: No such file"):
        capture_python(replace(description, files=(replace(first, source="/nonexistent/x"),)), tmp_path / "gone")


def test_an_interpreter_that_is_not_there_or_does_not_work_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="none cannot be run: No such file"):
        describe_python(tmp_path / "none")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho first >&2; echo it is broken >&2; exit 3\n")
    broken.chmod(0o755)
    with pytest.raises(UnikernelError, match="does not work: it is broken$"):
        describe_python(broken)


def test_the_interpreter_of_a_virtual_environment_is_the_one_that_it_was_made_from(
    tmp_path: Path, description: PythonDescription
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    assert describe_python(tmp_path / "venv/bin/python") == description


def _described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **changes: object) -> PythonDescription:
    """A made-up interpreter in `tmp_path`, with two modules in its standard library."""
    library = tmp_path / "lib/python3.8"
    (library / "lib-dynload").mkdir(parents=True)
    (library / "os.py").write_text("")
    (library / "link.py").symlink_to("nowhere.py")
    asked: dict[str, object] = {
        "implementation": "cpython",
        "version": "3.8.1",
        "series": "3.8",
        "cache_tag": "cpython-38",
        "machine": "x86_64",
        "executable": str(tmp_path / "bin/python3.8"),
        "standard_library": str(library),
        "dynamic_library": None,
        "platform_directory": "lib",
        "site_packages": ["/usr/lib/python3.8/site-packages"],
        "abiflags": "",
        "tags": ["py3-none-any"],
        **changes,
    }
    monkeypatch.setattr(host_python, "_ask", lambda interpreter: asked)
    return describe_python(tmp_path / "bin/python3.8")


def test_another_implementation_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="is pypy; only CPython"):
        _described(monkeypatch, tmp_path, implementation="pypy")


def test_a_wrapper_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3.8").write_text("#!/bin/sh\n")
    with pytest.raises(UnikernelError, match="is not an ELF program"):
        _described(monkeypatch, tmp_path)


def test_a_library_beside_the_interpreter_keeps_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # As in python-build-standalone, whose interpreter needs it by a path.
    name = "libpython3.8.so.1.0"
    flags = ("-shared", "-fPIC", f"-Wl,-soname,$ORIGIN/../lib/{name}")
    library = compile_c(tmp_path / f"lib/{name}", "int answer(void) { return 42; }", *flags)
    source = "int answer(void); int main(void) { return answer() - 42; }"
    compile_c(tmp_path / "bin/python3.8", source, str(library))
    description = _described(monkeypatch, tmp_path)
    assert description.facts.beside == (f"lib/{name}",)
    assert name not in " ".join(description.facts.libraries)
    assert "lib/python3.8/link.py" not in [file.destination for file in description.files]
    capture_python(description, tmp_path / "captured")
    library.unlink()
    runtime = PythonRuntime.load(tmp_path / "captured")
    assert subprocess.run(runtime.command()).returncode == 0


def test_the_standard_library_keeps_the_directory_that_the_interpreter_looks_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As Fedora's.
    compile_c(tmp_path / "bin/python3.8", "int main(void) { return 0; }")
    places = ["/usr/lib64/python3.8/site-packages", "/usr/lib/python3.8/site-packages"]
    description = _described(monkeypatch, tmp_path, platform_directory="lib64", site_packages=places)
    assert "lib64/python3.8/os.py" in [file.destination for file in description.files]
    assert description.facts.standard_library == "lib64/python3.8"
    assert description.facts.site_packages == places[0]
    assert PythonRuntime(tmp_path, description.facts).standard_library == "/usr/lib64/python3.8"


def test_a_missing_library_is_named_with_what_needs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = compile_c(tmp_path / "libnone.so.1", "int none(void) { return 0; }", "-shared", "-fPIC", "-Wl,-soname,libnone.so.1")
    compile_c(tmp_path / "bin/python3.8", "int none(void); int main(void) { return none(); }", str(library))
    library.unlink()
    with pytest.raises(UnikernelError, match=r"bin/python3\.8 needs libnone\.so\.1, which this machine does not have"):
        _described(monkeypatch, tmp_path)
