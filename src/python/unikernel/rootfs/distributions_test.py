from __future__ import annotations

import stat
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.rootfs.distributions import build_distributions_layer, check_interpreter, select_wheels
from unikernel.rootfs.layer import LayerIndex
from unikernel.rootfs.raw_distributions import pack_distributions
from unikernel.testing.programs import for_another_machine, shared_library
from unikernel.testing.python import linked_runtime, write_tree

_TAGS = (
    "cp311-cp311-manylinux_2_36_x86_64",
    "cp311-abi3-manylinux_2_17_x86_64",
    "cp39-abi3-linux_x86_64",
    "py3-none-any",
)


@pytest.mark.parametrize(
    "constraints",
    [
        (),
        ("CPython>=3.9,<3.12",),
        ("CPython==3.11.*",),
        (">=3.9",),
        ("CPython",),
        ("CPython >= 3.11",),
        ("CPython==3.9.*", "CPython==3.11.*"),
        ("PyPy==3.9.*", "CPython>=3"),
        ("CPython[gil]==3.11.*",),
    ],
)
def test_constraints_that_admit_the_interpreter(constraints: tuple[str, ...]) -> None:
    check_interpreter(constraints, "3.11.2")


@pytest.mark.parametrize(
    "constraints",
    [("CPython==3.9.*",), ("CPython>=3.12", "<3.11"), ("PyPy>=3.9",), ("pypy==3.11.*",), ("CPython what",)],
)
def test_constraints_that_do_not_are_named(constraints: tuple[str, ...]) -> None:
    with pytest.raises(UnikernelError) as caught:
        check_interpreter(constraints, "3.11.2")
    assert all(constraint in str(caught.value) for constraint in constraints)
    assert "CPython 3.11.2" in str(caught.value)


@pytest.mark.parametrize("version", ["3.14.0rc2", "3.14.0a1+"])
def test_interpreters_before_their_release(version: str) -> None:
    check_interpreter(["CPython>=3.9"], version)


def test_of_several_wheels_the_one_that_the_interpreter_likes_best_is_taken() -> None:
    names = [
        "fast-1.0-cp310-cp310-manylinux_2_17_x86_64.whl",
        "fast-1.0-cp311-cp311-manylinux_2_36_x86_64.whl",
        "fast-1.0-py3-none-any.whl",
        "Two_Words-2.0-cp39-abi3-linux_x86_64.manylinux_2_17_x86_64.whl",
        "plain-1.0-py2.py3-none-any.whl",
        "not a wheel",
    ]
    assert select_wheels(names, _TAGS, "3.11.2") == [
        "Two_Words-2.0-cp39-abi3-linux_x86_64.manylinux_2_17_x86_64.whl",
        "fast-1.0-cp311-cp311-manylinux_2_36_x86_64.whl",
        "not a wheel",
        "plain-1.0-py2.py3-none-any.whl",
    ]
    assert select_wheels(list(reversed(names)), _TAGS, "3.11.2") == select_wheels(names, _TAGS, "3.11.2")


def test_a_distribution_without_a_fitting_wheel_is_named() -> None:
    with pytest.raises(UnikernelError) as caught:
        select_wheels(["fast-1.0-cp311-cp311-manylinux_2_17_aarch64.whl", "ok-1-py3-none-any.whl"], _TAGS, "3.11.2")
    for part in ("No wheel of fast", "CPython 3.11.2", "fast-1.0-cp311-cp311-manylinux_2_17_aarch64.whl"):
        assert part in str(caught.value)


def _layer(tmp_path: Path, name: str = "scratch") -> LayerIndex:
    pack_distributions(tmp_path / "raw", ["CPython>=3.9"], tmp_path / "raw.tar")
    scratch = tmp_path / name
    scratch.mkdir()
    runtime = linked_runtime(tmp_path / f"runtime-{name}")
    layer, index = build_distributions_layer(tmp_path / "raw.tar", runtime, scratch)
    layer.write(tmp_path / f"{name}.cpio", index)
    return index


def test_the_layer_has_sources_bytecode_and_data_at_the_places_where_python_looks(tmp_path: Path) -> None:
    write_tree(
        tmp_path / "raw",
        {
            "ns_a-1.0-py3-none-any.whl/ns/a/__init__.py": "A = 1",
            "ns_b-1.0-py3-none-any.whl/ns/b.py": "B = 1",
            "ns_b-1.0-py3-none-any.whl/ns_b-1.0.dist-info/METADATA": "Name: ns.b\nVersion: 1.0\nLicense-Expression: MIT\n",
            "ns_b-1.0-py3-none-any.whl/ns/template.html": "<p>",
            "ns_b-1.0-py3-none-any.whl/ns/for_another_python.py": "print 'no'",
        },
    )
    index = _layer(tmp_path)
    site = linked_runtime(tmp_path / "r").facts.site_packages
    tag = linked_runtime(tmp_path / "r2").facts.cache_tag
    paths = {entry.path: entry.mode for entry in index.entries}
    for path in (
        "ns/a/__init__.py",
        f"ns/a/__pycache__/__init__.{tag}.pyc",
        f"ns/__pycache__/b.{tag}.pyc",
        "ns/template.html",
    ):
        assert paths[f"{site}/{path}"] == stat.S_IFREG | 0o644
    assert f"{site}/ns/for_another_python.py" in paths
    assert f"{site}/ns/__pycache__/for_another_python.{tag}.pyc" not in paths
    (line,) = index.facts["uncompiled"]
    assert line.startswith(f"{site}/ns/for_another_python.py: ")
    nameless, described = index.components
    assert nameless.name == "ns_a-1.0-py3-none-any.whl"
    assert (described.name, described.purl, described.licenses) == ("ns.b", "pkg:pypi/ns-b@1.0", ("MIT",))
    assert len({nameless.sha256, described.sha256}) == 2
    assert index.facts["distributions"] == ["ns_a-1.0-py3-none-any.whl", "ns_b-1.0-py3-none-any.whl"]


def test_the_layer_is_the_same_in_two_runs(tmp_path: Path) -> None:
    write_tree(tmp_path / "raw/a-1-py3-none-any.whl", {"a.py": "X = {'b', 'c', 'd'}\ndef f(): return {1, 2, 'x'} == X\n"})
    assert _layer(tmp_path, "one").archive_sha256 == _layer(tmp_path, "two").archive_sha256


def test_extension_modules_bring_their_needs(tmp_path: Path) -> None:
    vendored = shared_library(tmp_path / "raw/fast-1-py3-none-any.whl/fast.libs/libv-12ab.so.1", "v")
    system = shared_library(tmp_path / "libsystem.so.1", "s")
    module = tmp_path / "raw/fast-1-py3-none-any.whl/fast/_c.abi3.so"
    shared_library(module, "c", "-Wl,-rpath,$ORIGIN/../fast.libs", needs=[vendored, system])
    foreign = tmp_path / "raw/fast-1-py3-none-any.whl/fast/tests/foreign.so"
    for_another_machine(system, foreign)
    index = _layer(tmp_path)
    site = linked_runtime(tmp_path / "r").facts.site_packages
    assert index.needs == {"libsystem.so.1": f"{site}/fast/_c.abi3.so"}
    assert index.provides["libv-12ab.so.1"] == f"{site}/fast.libs/libv-12ab.so.1"


def test_distributions_for_another_interpreter_are_refused(tmp_path: Path) -> None:
    write_tree(tmp_path / "raw/a-1-py3-none-any.whl", {"a.py": ""})
    pack_distributions(tmp_path / "raw", ["CPython==2.7.*"], tmp_path / "raw.tar")
    with pytest.raises(UnikernelError, match=r"resolved for CPython==2\.7"):
        (tmp_path / "scratch").mkdir()
        build_distributions_layer(tmp_path / "raw.tar", linked_runtime(tmp_path / "runtime"), tmp_path / "scratch")
