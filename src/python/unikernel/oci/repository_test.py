from __future__ import annotations

import pytest

from unikernel.errors import UnikernelError
from unikernel.oci.repository import Repository, check_tags


@pytest.mark.parametrize(
    ("text", "host", "path"),
    [
        ("registry.example.com/team/greeter", "registry.example.com", "team/greeter"),
        ("registry.example.com:5000/a", "registry.example.com:5000", "a"),
        ("localhost/a", "localhost", "a"),
        ("registry:5000/a-b--c/d__e_f.g", "registry:5000", "a-b--c/d__e_f.g"),
        ("[::1]:5000/a", "[::1]:5000", "a"),
        ("docker.io/greeter", "docker.io", "library/greeter"),
        ("docker.io/team/greeter", "docker.io", "team/greeter"),
        ("a.b/" + "c" * 251, "a.b", "c" * 251),
    ],
)
def test_names_of_repositories(text: str, host: str, path: str) -> None:
    assert Repository.parse(text) == Repository(host, path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is no host"),
        ("greeter", "no host"),
        ("team/greeter", "no host"),
        ("registry.example.com", "no host"),
        ("registry.example.com/", "'' is not made of"),
        ("https://registry.example.com/a", "'https:' is no host"),
        ("user@registry.example.com/a", "is no host"),
        ("registry.example.com:0/a", "is no host"),
        ("registry.example.com:65536/a", "is no host"),
        ("registry.example.com:x/a", "is no host"),
        ("-registry.example.com/a", "is no host"),
        ("[::1/a", "is no host"),
        ("[1::2::3]:5000/a", "is no host"),
        ("registry.example.com/Greeter", "'Greeter' is not made of"),
        ("registry.example.com/a:latest", "'a:latest' is not made of"),
        ("registry.example.com/a@sha256:" + "0" * 64, "is not made of"),
        ("registry.example.com/a//b", "is not made of"),
        ("registry.example.com/a/", "is not made of"),
        ("registry.example.com/a__", "is not made of"),
        ("registry.example.com/a___b", "is not made of"),
        ("registry.example.com/a..b", "is not made of"),
        ("registry.example.com/a\n", "is not made of"),
        ("registry.example.com/../a", "is not made of"),
        ("a.b/" + "c" * 252, "longer than 255"),
    ],
)
def test_what_names_no_repository(text: str, problem: str) -> None:
    with pytest.raises(UnikernelError) as raised:
        Repository.parse(text)
    assert str(raised.value).startswith(f"{text!r} names no repository: ") and problem in str(raised.value)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.8.9.1", True),
        ("[::1]:5000", True),
        ("128.0.0.1", False),
        ("0.0.0.0:5000", False),
        ("[::2]:5000", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_only_this_machine_is_local(host: str, is_local: bool) -> None:
    assert Repository.parse(f"{host}/a").is_local is is_local


def test_tags() -> None:
    check_tags(["latest", "v1.2-3_4", "_", "A" * 128])


@pytest.mark.parametrize("tag", ["", "-a", ".a", "a/b", "a:b", "a b", "a\n", "ä", "a" * 129])
def test_what_is_no_tag(tag: str) -> None:
    with pytest.raises(UnikernelError, match="is no tag"):
        check_tags(["latest", tag])


@pytest.mark.parametrize("end", ["", ".sig", ".att", ".sbom"])
def test_names_of_signatures_are_no_tags_of_images(end: str) -> None:
    with pytest.raises(UnikernelError, match="what signatures are found by"):
        check_tags([f"sha256-{'0' * 64}{end}"])
