from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from unikernel.errors import UnikernelError
from unikernel.oci.credentials import Credentials, find_credentials
from unikernel.oci.repository import Repository

_REPOSITORY = Repository("registry.example.com", "team/greeter")


def _auth(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def _find(tmp_path: Path, document: Any, repository: Repository = _REPOSITORY) -> Credentials | None:
    (tmp_path / "config.json").write_text(json.dumps(document))
    return find_credentials(repository, {"DOCKER_CONFIG": str(tmp_path), "PATH": str(tmp_path)})


def _helper(tmp_path: Path, name: str, script: str) -> None:
    path = tmp_path / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread server\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    "key", ["registry.example.com", "https://registry.example.com", "https://registry.example.com/v1/", "registry.example.com/v2/"]
)
def test_names_of_registries_as_docker_writes_them(tmp_path: Path, key: str) -> None:
    found = _find(tmp_path, {"auths": {"other.example.com": _auth("x", "y"), key: _auth("me", "a:b")}})
    assert found is not None and (found.username, found.password) == ("me", "a:b")
    assert str(tmp_path) in found.source


def test_the_most_specific_entry_counts(tmp_path: Path) -> None:
    names = ("registry.example.com", "registry.example.com/team", "registry.example.com/other")
    found = _find(tmp_path, {"auths": {name: _auth(name, "x") for name in names}})
    assert found is not None and found.username == "registry.example.com/team"


def test_other_registries_credentials_are_not_taken(tmp_path: Path) -> None:
    names = ("example.com", "registry.example.com:5000", "registry.example.com/other", "https://registry.example.com.evil.com/v1/")
    assert _find(tmp_path, {"auths": {name: _auth("x", "y") for name in names}}) is None
    assert _find(tmp_path, {}) is None
    assert _find(tmp_path, {"auths": {"registry.example.com": {}}}) is None


def test_docker_hub(tmp_path: Path) -> None:
    found = _find(tmp_path, {"auths": {"https://index.docker.io/v1/": _auth("me", "x")}}, Repository("docker.io", "a/b"))
    assert found is not None and found.username == "me"
    _helper(tmp_path, "store", '[ "$server" = https://index.docker.io/v1/ ] && echo \'{"Username": "hub", "Secret": "x"}\'')
    found = _find(tmp_path, {"credsStore": "store"}, Repository("docker.io", "a/b"))
    assert found is not None and found.username == "hub"


def test_where_the_file_is(tmp_path: Path) -> None:
    for name in ("home/.docker/config.json", "docker/config.json", "auth.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"auths": {_REPOSITORY.host: _auth(name, "x")}}))
    environ = {"HOME": str(tmp_path / "home")}
    expected = ["home/.docker/config.json"]
    found = [find_credentials(_REPOSITORY, environ)]
    for key, value, name in (
        ("DOCKER_CONFIG", "docker", "docker/config.json"),
        ("REGISTRY_AUTH_FILE", "auth.json", "auth.json"),
    ):
        environ[key] = str(tmp_path / value)
        expected.append(name)
        found.append(find_credentials(_REPOSITORY, environ))
    assert [credentials and credentials.username for credentials in found] == expected
    with pytest.raises(UnikernelError, match=r"\$REGISTRY_AUTH_FILE is .*missing, which is no file"):
        find_credentials(_REPOSITORY, {"REGISTRY_AUTH_FILE": str(tmp_path / "missing")})
    assert find_credentials(_REPOSITORY, {"HOME": str(tmp_path / "nowhere")}) is None


def test_a_helper_of_the_registry_comes_before_the_store(tmp_path: Path) -> None:
    _helper(tmp_path, "one", 'echo "{\\"Username\\": \\"one\\", \\"Secret\\": \\"$server\\"}"')
    _helper(tmp_path, "two", 'echo "{\\"Username\\": \\"two\\", \\"Secret\\": \\"$server\\"}"')
    document = {"credHelpers": {"registry.example.com": "one"}, "credsStore": "two", "auths": {"registry.example.com": {}}}
    found = _find(tmp_path, document)
    assert found is not None and (found.username, found.password) == ("one", "registry.example.com")
    found = _find(tmp_path, document, Repository("other.example.com", "a"))
    assert found is not None and found.username == "two"


def test_identity_tokens(tmp_path: Path) -> None:
    _helper(tmp_path, "store", 'echo \'{"Username": "<token>", "Secret": "t0ken"}\'')
    found = _find(tmp_path, {"credsStore": "store"})
    assert found is not None and (found.password, found.identity_token) == ("", "t0ken")
    found = _find(tmp_path, {"auths": {"registry.example.com": {**_auth("x", ""), "identitytoken": "t1"}}})
    assert found is not None and found.identity_token == "t1"
    assert found.to_document() == {"auth": "MDo=", "identitytoken": "t1"}


def test_a_helper_that_has_none(tmp_path: Path) -> None:
    _helper(tmp_path, "store", "echo credentials not found in native keychain; exit 1")
    assert _find(tmp_path, {"credsStore": "store"}) is None
    found = _find(tmp_path, {"credsStore": "store", "auths": {"registry.example.com": _auth("file", "x")}})
    assert found is not None and found.username == "file"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo s3cret; echo locked >&2; exit 3", r"status 3\): locked; try it"),
        ("echo s3cret", "does not answer as helpers do"),
        ('echo \'{"Secret": "s3cret"}\'', "does not answer as helpers do"),
        ("echo '[\"s3cret\"]'", "does not answer as helpers do"),
    ],
)
def test_a_helper_that_fails(tmp_path: Path, script: str, problem: str) -> None:
    _helper(tmp_path, "store", script)
    with pytest.raises(UnikernelError, match=problem) as raised:
        _find(tmp_path, {"credsStore": "store"})
    assert "s3cret" not in str(raised.value)


def test_a_helper_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        UnikernelError, match="config.json names the credential helper docker-credential-none, which is not on PATH"
    ):
        _find(tmp_path, {"credsStore": "none"})


@pytest.mark.parametrize("content", ['{"s3cret"', '["s3cret"]', "\ud800"])
def test_a_file_that_is_broken(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UnikernelError, match="Credentials cannot be read from .*config.json") as raised:
        find_credentials(_REPOSITORY, {"DOCKER_CONFIG": str(tmp_path)})
    assert "s3cret" not in str(raised.value) and raised.value.__cause__ is None


@pytest.mark.parametrize("entry", ["s3cret", {"auth": "s3cret"}, {"auth": "czNjcmV0"}, {"auth": 7}, ["s3cret"]])
def test_an_entry_that_is_broken(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(UnikernelError, match="entry for registry.example.com in .* is broken: log in again") as raised:
        _find(tmp_path, {"auths": {"registry.example.com": entry}})
    assert "s3cret" not in str(raised.value)


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(Credentials("me", "s3cret", "s3cret", "x"))
