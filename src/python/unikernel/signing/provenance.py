"""Provenance of an image as a predicate of SLSA v1 (slsa.dev/spec/v1.0/provenance).

Without times: the same inputs, the same key and the same commit give the same bytes. When something was built is known of the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from unikernel.signing.documents import member

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:pants-unikernel:package:v1"
_BUILDER = "urn:pants-unikernel:builder"
_DEVELOPMENT = "development"
_CONFIGURED = "configured"


@dataclass(frozen=True)
class Source:
    """The repository: `commit` is what HEAD was; `dirty` tells that files differed from it. `uri` is that of the remote, if there is one."""

    commit: str
    dirty: bool
    uri: str = ""


@dataclass(frozen=True)
class Artifact:
    """Something with a digest (SHA-256, hex). `uri` says what it is where a name for that exists, such as a package URL."""

    name: str
    sha256: str
    uri: str = ""


@dataclass(frozen=True)
class Build:
    """`fields` are the target's as they were written; `versions` those of the builder's parts, such as {"pants": "2.17.1"}."""

    target: str
    fields: Mapping[str, Any]
    inputs: Sequence[Artifact]
    source: Optional[Source]
    versions: Mapping[str, str]
    development_key: bool
    byproducts: Sequence[Artifact] = field(default=())


def provenance_predicate(build: Build) -> dict[str, Any]:
    dependencies = [_resource(artifact) for artifact in sorted(build.inputs, key=lambda artifact: artifact.name)]
    if build.source is not None:
        dependencies.insert(0, _source(build.source))
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"target": build.target, "fields": dict(build.fields)},
            "internalParameters": {"signingKey": _DEVELOPMENT if build.development_key else _CONFIGURED},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": _BUILDER, "version": dict(build.versions)},
            "metadata": {},
            "byproducts": [_resource(artifact) for artifact in sorted(build.byproducts, key=lambda artifact: artifact.name)],
        },
    }


def _resource(artifact: Artifact) -> dict[str, Any]:
    resource: dict[str, Any] = {"name": artifact.name, "digest": {"sha256": artifact.sha256}}
    return {**resource, "uri": artifact.uri} if artifact.uri else resource


def _source(source: Source) -> dict[str, Any]:
    resource = {"name": "source", "digest": {"gitCommit": source.commit}, "annotations": {"dirty": source.dirty}}
    return {**resource, "uri": f"git+{source.uri}"} if source.uri else resource


def is_by_development_key(predicate: Mapping[str, Any]) -> bool:
    """Whether provenance says that nobody configured the key it is signed with. Of what says nothing, that is assumed."""
    parameters = member(member(predicate, "buildDefinition"), "internalParameters")
    return parameters.get("signingKey") != _CONFIGURED


def source_of(predicate: Mapping[str, Any]) -> Source | None:
    for dependency in _resources(member(predicate, "buildDefinition"), "resolvedDependencies"):
        commit = member(dependency, "digest").get("gitCommit")
        if isinstance(commit, str):
            uri = dependency.get("uri", "")
            dirty = member(dependency, "annotations").get("dirty") is not False
            return Source(commit, dirty, uri[len("git+") :] if isinstance(uri, str) and uri.startswith("git+") else "")
    return None


def inputs_of(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The digests (SHA-256, hex) of what went in, by name."""
    return _digests(_resources(member(predicate, "buildDefinition"), "resolvedDependencies"))


def byproducts_of(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The digests (SHA-256, hex) of what was made beside the image, by name."""
    return _digests(_resources(member(predicate, "runDetails"), "byproducts"))


def _digests(resources: Sequence[Any]) -> dict[str, Any]:
    digests = {}
    for resource in resources:
        sha256 = member(resource, "digest").get("sha256")
        if isinstance(sha256, str) and isinstance(resource.get("name"), str):
            digests[resource["name"]] = sha256
    return digests


def _resources(document: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else ()
