from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from strictyaml import ruamel

from unikernel.deploy.yaml_document import to_yaml
from unikernel.testing.workloads import TRAPS


def _read(text: str, version: str) -> Any:
    reader = ruamel.YAML(typ="safe", pure=True)
    reader.version = version
    return reader.load(text)


def _readings(text: str) -> list[Any]:
    """As three readers read it."""
    return [yaml.safe_load(text), _read(text, "1.1"), _read(text, "1.2")]


@pytest.mark.parametrize("trap", TRAPS)
def test_a_string_stays_one_for_every_reader(trap: str) -> None:
    document = {trap: trap, "list": [trap]}
    assert _readings(to_yaml(document)) == [document] * 3


@pytest.mark.parametrize(
    ("trap", "readings"),
    [("yes", [True, True, "yes"]), ("0o17", ["0o17", "0o17", 15]), ("017", [15, 15, 17]), ("0x1F", [31, 31, 31])],
)
def test_without_quotes_readers_differ(trap: str, readings: list[Any]) -> None:
    assert _readings(trap) == readings
    assert to_yaml([trap]) == f'- "{trap}"\n'


@given(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.booleans(), min_size=1))
def test_any_text_is_read_back(document: dict[str, Any]) -> None:
    text = to_yaml(document)
    assert text.isascii()
    assert yaml.safe_load(text) == document


def test_what_is_safe_has_no_quotes_and_a_long_line_is_one() -> None:
    document = {"app.kubernetes.io/name": "greeter-2", "words": " ".join(["word"] * 500), "number": 8080, "is": False}
    text = to_yaml(document)
    assert text.startswith("app.kubernetes.io/name: greeter-2\nwords: ")
    assert text.endswith("\nnumber: 8080\nis: false\n")
    assert text.count("\n") == 4


def test_what_is_there_twice_is_written_twice() -> None:
    shared = {"a": ["b"]}
    assert to_yaml([shared, shared]) == "- a:\n  - b\n- a:\n  - b\n"


def test_numbers_are_numbers() -> None:
    assert _readings(to_yaml({"a": 1, "b": True})) == [{"a": 1, "b": True}] * 3
    assert math.isinf(yaml.safe_load(to_yaml({"a": float("inf")}))["a"])
