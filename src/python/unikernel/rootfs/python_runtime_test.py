from __future__ import annotations

import marshal
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.host.python import capture_python, describe_python
from unikernel.image.limits import check_needs
from unikernel.rootfs.cpio import read_cpio_bytes
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.python_runtime import PythonRuntime, add_python_tree, build_runtime_layer, stripped_files
from unikernel.testing.python import SERIES, linked_runtime, write_tree


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of the interpreter at hand, `one.cpio` and `two.cpio`, and the first of them unpacked in `root`."""
    directory = tmp_path_factory.mktemp("image")
    capture_python(describe_python(Path(sys.executable)), directory / "captured")
    # The second time from another place.
    for name, captured in (("one", directory / "captured"), ("two", directory / "moved")):
        if not captured.exists():
            (directory / "captured").rename(captured)
        scratch = directory / f"scratch-{name}"
        scratch.mkdir()
        layer, index = build_runtime_layer(PythonRuntime.load(captured), scratch, "strip")
        layer.write(directory / f"{name}.cpio", index)
        shutil.rmtree(scratch)
    for entry, content in read_cpio_bytes((directory / "one.cpio").read_bytes()):
        target = directory / "root" / entry.path
        if stat.S_ISDIR(entry.mode):
            target.mkdir(parents=True, exist_ok=True)
        elif stat.S_ISLNK(entry.mode):
            target.symlink_to(os.fsdecode(content))
        else:
            target.write_bytes(content)
            target.chmod(stat.S_IMODE(entry.mode))
    return directory


def _python(image: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = image / "root"
    libraries = root / os.path.dirname(LayerIndex.read(image / "one.json").provides["libc.so.6"]).lstrip("/")
    return subprocess.run(
        [str(root / "lib64/ld-linux-x86-64.so.2"), "--inhibit-cache", "--library-path", str(libraries)]
        + [str(root / f"usr/bin/python{SERIES}"), *arguments],
        env={"PYTHONHOME": str(root / "usr")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_the_layer_is_the_same_bytes_in_two_runs(image: Path) -> None:
    assert (image / "one.cpio").read_bytes() == (image / "two.cpio").read_bytes()
    assert (image / "one.json").read_bytes() == (image / "two.json").read_bytes()


def test_the_layer_stands_by_itself(image: Path) -> None:
    index = LayerIndex.read(image / "one.json")
    check_needs([index])
    assert index.tls
    assert index.facts["python"].startswith(SERIES)
    paths = {entry.path: entry for entry in index.entries}
    assert paths["/usr/bin/python3"].target == paths["/usr/bin/python"].target == f"python{SERIES}"
    assert paths[f"/usr/lib/python{SERIES}/os.pyc"].mode == stat.S_IFREG | 0o644
    assert not [path for path in paths if path.endswith(".py")]
    assert not [path for path in paths if str(image) in path]


def test_no_path_of_the_build_is_in_the_bytecode(image: Path) -> None:
    for path in (image / "root").rglob("*.pyc"):
        assert str(image).encode() not in path.read_bytes(), path


def test_the_interpreter_of_the_layer_runs(image: Path) -> None:
    code = "import json, ssl, sqlite3, asyncio, email, logging.config, http.server; print(json.__file__, json.__cached__)"
    result = _python(image, "-c", code)
    assert result.stderr == ""
    assert result.stdout.startswith(str(image / f"root/usr/lib/python{SERIES}/json/__init__.pyc"))


def test_tracebacks_name_files_and_lines_of_the_image(image: Path) -> None:
    result = _python(image, "-c", "import json; json.loads('{')")
    assert f'File "/usr/lib/python{SERIES}/json/decoder.py", line ' in result.stderr


def test_modules_can_be_run(image: Path) -> None:
    assert _python(image, "-m", "json.tool", "--help").stdout.startswith("usage:")


def test_the_bytecode_is_unchecked(image: Path) -> None:
    pyc = (image / f"root/usr/lib/python{SERIES}/os.pyc").read_bytes()
    # PEP 552: hash-based, and not to be checked.
    assert int.from_bytes(pyc[4:8], "little") == 0b01


def test_a_tree_gets_bytecode_that_loads_and_carries_the_path_of_the_image(tmp_path: Path) -> None:
    runtime = linked_runtime(tmp_path / "runtime")
    root = write_tree(tmp_path / "tree", {"pkg/__init__.py": "VALUE = 42", "pkg/data.bin": "d", "bad.py": "\0", "worse.py": "def"})
    layer = Layer("x")
    lines = add_python_tree(layer, "/app", root, runtime, tmp_path / "scratch")
    assert sorted(line.split(":")[0] for line in lines) == ["/app/bad.py", "/app/worse.py"]
    tag = runtime.facts.cache_tag
    assert list(layer.paths()) == [
        *("/app", "/app/bad.py", "/app/pkg", "/app/pkg/__init__.py", "/app/pkg/__pycache__"),
        *(f"/app/pkg/__pycache__/__init__.{tag}.pyc", "/app/pkg/data.bin", "/app/worse.py"),
    ]
    with layer.open(f"/app/pkg/__pycache__/__init__.{tag}.pyc") as stream:
        (root / "pkg/__pycache__").mkdir()
        pyc = stream.read()
    assert marshal.loads(pyc[16:]).co_filename == "/app/pkg/__init__.py"
    (root / f"pkg/__pycache__/__init__.{tag}.pyc").write_bytes(pyc)
    # Unchecked: it is taken although the source is another one by now.
    (root / "pkg/__init__.py").write_text("raise SystemExit('the source was read')")
    result = subprocess.run(
        [sys.executable, "-c", "import pkg; print(pkg.VALUE)"], cwd=root, stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert result.stdout == "42\n"


def test_odd_names_survive_the_compilation(tmp_path: Path) -> None:
    runtime = linked_runtime(tmp_path / "runtime")
    name = os.fsdecode(b"a b\xff.py")
    root = write_tree(tmp_path / "tree", {name: "x = (", "grüße.py": "x = 1"})
    layer = Layer("x")
    (line,) = add_python_tree(layer, "/app", root, runtime, tmp_path / "scratch")
    assert line.startswith("/app/a b")
    assert f"/app/__pycache__/grüße.{runtime.facts.cache_tag}.pyc" in layer


def test_a_runtime_that_does_not_run_here_is_named(tmp_path: Path) -> None:
    runtime = linked_runtime(tmp_path / "runtime")
    (tmp_path / f"runtime/lib/python{SERIES}").unlink()
    with pytest.raises(UnikernelError, match=rf"Python {SERIES}[^)]*\) does not run on the build machine"):
        runtime.compile([])


def test_what_is_stripped_is_known_as_it_was_captured(image: Path) -> None:
    runtime = PythonRuntime.load(image / "moved")
    stripped = stripped_files(runtime)
    assert stripped[runtime.executable].read_bytes()[:4] == b"\x7fELF"
    entries = {f"/{entry.path}" for entry, _ in read_cpio_bytes((image / "one.cpio").read_bytes())}
    assert set(stripped) <= entries
    assert all(path.is_file() for path in stripped.values())
    # All of its own ELF files but the loader, which is left as it is.
    elf = {f"/{path.relative_to(image / 'root')}" for path in (image / "root").rglob("*") if _is_own_elf(path)}
    assert elf - set(stripped) == {runtime.facts.loader}


def _is_own_elf(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF"


def test_a_strip_that_fails_is_named(tmp_path: Path) -> None:
    runtime = linked_runtime(tmp_path / "runtime")
    with pytest.raises(UnikernelError, match="^false failed on .*bin/python"):
        build_runtime_layer(runtime, tmp_path, "false")
