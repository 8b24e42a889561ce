from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance

from unikernel.signing.provenance import (
    Artifact,
    Build,
    Source,
    is_by_development_key,
    provenance_predicate,
    source_of,
)

_SOURCE = Source("ab" * 20, False, "https://example.com/repository.git")


def _build(**changes: Any) -> Build:
    settings: dict[str, Any] = {
        "target": "src/services/hello:unikernel",
        "fields": {"app": ":hello", "memory": "24M", "ports": ["8080"]},
        "inputs": (Artifact("kit", "11" * 32), Artifact("app", "22" * 32)),
        "source": _SOURCE,
        "versions": {"pants": "2.17.1"},
        "development_key": False,
        "byproducts": (Artifact("unikernel.spdx.json", "33" * 32),),
    }
    return Build(**{**settings, **changes})


@pytest.mark.parametrize(
    "build", [_build(), _build(source=None), _build(source=Source("cd" * 20, True)), _build(inputs=(), byproducts=())]
)
def test_it_is_a_message_of_the_schema(build: Build) -> None:
    message = json_format.ParseDict(provenance_predicate(build), Provenance())
    assert message.build_definition.external_parameters["target"] == build.target


def test_it_says_what_went_in() -> None:
    definition = provenance_predicate(_build())["buildDefinition"]
    assert [dependency["name"] for dependency in definition["resolvedDependencies"]] == ["source", "app", "kit"]
    assert definition["resolvedDependencies"][0]["digest"] == {"gitCommit": "ab" * 20}
    assert definition["externalParameters"]["fields"]["memory"] == "24M"


def test_the_source_is_read_back() -> None:
    for source in (_SOURCE, Source("cd" * 20, True), None):
        assert source_of(provenance_predicate(_build(source=source))) == source


def test_a_development_key_is_known_and_assumed() -> None:
    assert not is_by_development_key(provenance_predicate(_build()))
    assert is_by_development_key(provenance_predicate(_build(development_key=True)))
    assert is_by_development_key({})


@pytest.mark.parametrize(
    "predicate",
    [
        {},
        {"buildDefinition": []},
        {"buildDefinition": {"internalParameters": 1, "resolvedDependencies": {}}},
        {"buildDefinition": {"resolvedDependencies": [1, {"digest": 1}, {"digest": {"gitCommit": 1}}]}},
    ],
)
def test_nonsense_says_nothing(predicate: dict[str, Any]) -> None:
    assert source_of(predicate) is None
    assert is_by_development_key(predicate)


def test_a_source_that_does_not_say_that_it_is_clean_is_dirty() -> None:
    dependency = {"digest": {"gitCommit": "ab"}, "uri": 5}
    assert source_of({"buildDefinition": {"resolvedDependencies": [dependency]}}) == Source("ab", True, "")
