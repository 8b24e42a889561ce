from __future__ import annotations

from typing import Any

import pytest
from pants.engine.addresses import Address
from pants.engine.target import InvalidTargetException

from pants_unikernel.goals.test_image import UnikernelTestFieldSet
from pants_unikernel.image_test_target import UnikernelPythonTestsTarget, UnikernelTestHttpField, UnikernelTestTarget
from pants_unikernel.util_rules.python_tests import nearest
from unikernel.image_test.expectations import Expectations, HttpProbe, TcpProbe

_ADDRESS = Address("services/web", target_name="boots")


def _target(**fields: Any) -> UnikernelTestTarget:
    return UnikernelTestTarget({"image": ":unikernel", **fields}, _ADDRESS)


def test_fields_become_what_the_toolkit_reads() -> None:
    target = _target(
        exit_status=3,
        console=["a"],
        console_not=["b"],
        http=[{"path": "/a", "headers": {"B": "2", "A": "1"}}],
        tcp=[{"port": 80}],
        memory="96M",
        args=["-v"],
        env={"B": "2", "A": "1"},
    )
    expectations = UnikernelTestFieldSet.create(target).expectations(60)
    assert expectations == Expectations(
        name="services/web:boots",
        exit_status=3,
        console=("a",),
        console_not=("b",),
        http=(HttpProbe(path="/a", headers=(("A", "1"), ("B", "2"))),),
        tcp=(TcpProbe(80),),
        memory="96M",
        args=("-v",),
        env=(("A", "1"), ("B", "2")),
    )
    # Pants keeps targets in tables.
    same = _target(http=[{"headers": {"A": "1", "B": "2"}, "path": "/a"}])
    assert hash(target[UnikernelTestHttpField]) == hash(same[UnikernelTestHttpField])


def test_an_image_that_is_asked_for_nothing() -> None:
    assert UnikernelTestFieldSet.create(_target()).expectations(None) == Expectations(name="services/web:boots", timeout=None)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"exit_status": 256}, "`exit_status` field in target services/web:boots is not valid: 256 is no exit status"),
        ({"exit_status": "0"}, "'exit_status'"),
        ({"console": "text"}, "'console'"),
        ({"console": ["("]}, "`console` field in target services/web:boots is not valid: '.' is no regular expression"),
        ({"console_not": ["("]}, "`console_not`"),
        ({"http": {"path": "/"}}, "`http` field in target services/web:boots is not valid: .* is no list"),
        ({"http": ["/"]}, "`http` .* '/' is no object"),
        ({"http": [{"url": "/"}]}, "`http` .* 'url' is none of method, path, port"),
        ({"http": [{"body": "("}]}, "`http` .* body: '.' is no regular expression"),
        ({"tcp": [{"port": "http"}]}, "`tcp` .* port: 'http' is no port"),
        ({"timeout": 0}, "'timeout'"),
        ({"memory": "lots"}, "`memory`"),
        ({"args": "text"}, "'args'"),
        ({"env": {"A=B": ""}}, "`env` .* 'A=B' is no name"),
        ({"image": 1}, "'image'"),
    ],
)
def test_a_field_that_cannot_be_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTargetException, match=words):
        _target(**fields)


def test_python_tests_name_their_tests() -> None:
    with pytest.raises(InvalidTargetException, match="tests"):
        UnikernelPythonTestsTarget({"image": ":unikernel"}, _ADDRESS)


@pytest.mark.parametrize(
    "configs, directories, chosen",
    [
        ([], ["a"], None),
        (["pyproject.toml"], ["a/b"], "pyproject.toml"),
        (["pyproject.toml", "a/setup.cfg", "a/tox.ini"], ["a/b", "a"], "a/tox.ini"),
        (["pytest.ini", "a/b/pytest.ini", "ab/pytest.ini"], ["a/b", "a/c"], "pytest.ini"),
        (["a/b/pytest.ini"], ["a"], None),
    ],
)
def test_the_configuration_is_the_nearest_above_all_tests(configs: list[str], directories: list[str], chosen: str | None) -> None:
    assert nearest(configs, directories) == chosen
