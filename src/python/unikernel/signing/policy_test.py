from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unikernel.errors import UnikernelError
from unikernel.signing.policy import Policy
from unikernel.signing.provenance import Source

_KEY, _COMMIT = "ab" * 32, "cd" * 20
_WHOLE: dict[str, Any] = {
    "keys": [_KEY],
    "source": {"repository": "https://example.com/r.git", "commit": _COMMIT, "clean": True},
    "library_os": {"name": "linux", "minimum_version": "6.1.100"},
    "development_keys": True,
}


def _parse(document: object) -> Policy:
    return Policy.parse(json.dumps(document).encode(), "policy.json")


def test_a_policy_is_read(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(json.dumps(_WHOLE))
    policy = Policy.read(tmp_path / "policy.json")
    assert policy == Policy((_KEY,), "https://example.com/r.git", _COMMIT, True, "linux", "6.1.100", True)
    assert _parse({}) == Policy()
    with pytest.raises(UnikernelError, match="cannot be read: No such file"):
        Policy.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"key": [_KEY]}, "no member 'key'; there are development_keys, keys"),
        ({"source": {"Commit": _COMMIT}}, "no member 'Commit' of 'source'"),
        ({"source": []}, "'source' is no object"),
        ({"keys": _KEY}, "'keys' is no list of fingerprints"),
        ({"keys": [_KEY.upper()]}, "'keys' is no list of fingerprints"),
        ({"source": {"commit": "main"}}, "'commit' cannot be 'main'"),
        ({"source": {"commit": None}}, "'commit' cannot be None"),
        ({"source": {"clean": 1}}, "'clean' is true or false, not 1"),
        ({"library_os": {"minimum_version": "6.x"}}, "'minimum_version' cannot be '6.x'"),
        ({"development_keys": "no"}, "'development_keys' is true or false"),
        ([], "no JSON object"),
    ],
)
def test_what_a_policy_does_not_know_is_refused(document: object, expected: str) -> None:
    with pytest.raises(UnikernelError, match=expected):
        _parse(document)


def test_keys() -> None:
    Policy().check_key("ef" * 32)
    Policy(keys=(_KEY,)).check_key(_KEY)
    with pytest.raises(UnikernelError, match="does not name the key"):
        Policy(keys=(_KEY,)).check_key("ef" * 32)
    Policy(development_keys=True).check_development_key(True)
    Policy().check_development_key(False)
    with pytest.raises(UnikernelError, match="development key"):
        Policy().check_development_key(True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, "names none"),
        (Source(_COMMIT, False, ""), "of an unknown repository"),
        (Source(_COMMIT, False, "https://example.com/other.git"), "demands https://example.com/r.git"),
        (Source("ef" * 20, False, "https://example.com/r.git"), f"demands {_COMMIT}"),
        (Source(_COMMIT, True, "https://example.com/r.git"), "differed from its commit"),
    ],
)
def test_sources(source: Source | None, expected: str) -> None:
    _parse(_WHOLE).check_source(Source(_COMMIT, False, "https://example.com/r.git"))
    Policy().check_source(source)
    with pytest.raises(UnikernelError, match=expected):
        _parse(_WHOLE).check_source(source)


@pytest.mark.parametrize("version", ["6.1.100", "6.1.100.0", "6.1.192", "6.12.1", "7", "6.2-rc1"])
def test_versions_that_are_new_enough(version: str) -> None:
    _parse(_WHOLE).check_library_os("linux", version)


@pytest.mark.parametrize("version", ["6.1.99", "6.1", "5.15.200", "", "next"])
def test_versions_that_are_too_old(version: str) -> None:
    with pytest.raises(UnikernelError, match=r"demands at least 6\.1\.100"):
        _parse(_WHOLE).check_library_os("linux", version)
    Policy().check_library_os("linux", version)


def test_another_library_os() -> None:
    with pytest.raises(UnikernelError, match="the library OS is nanos, and the policy demands linux"):
        _parse(_WHOLE).check_library_os("nanos", "9")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["keys", "source", "library_os", "commit", "clean", "name", "x"]), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=100) | _values.map(lambda value: json.dumps(value).encode()))
def test_no_policy_breaks_its_reader(content: bytes) -> None:
    try:
        Policy.parse(content, "policy.json")
    except UnikernelError as error:
        assert "policy.json" in str(error)
