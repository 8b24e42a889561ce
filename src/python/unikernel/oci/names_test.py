from __future__ import annotations

import pytest

from unikernel.errors import UnikernelError
from unikernel.oci.names import check_repository, check_tag


@pytest.mark.parametrize("name", ["localhost:5000/a", "registry.example.com/team/a-b/c__d.e", "127.0.0.1:1/x9", "[::1]:5000/a"])
def test_repositories(name: str) -> None:
    check_repository(name)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("service", "begins with a registry's address"),
        ("-bad.example/a", "begins with a registry's address"),
        ("/a", "begins with a registry's address"),
        ("example.com/", "'' is no name of a repository"),
        ("example.com/Team/a", "'Team/a' is no name of a repository"),
        ("example.com/a//b", "is no name of a repository"),
        ("example.com/a..b", "is no name of a repository"),
        ("example.com/a_-b", "is no name of a repository"),
        (f"example.com/{'a' * 250}", "is no name of a repository"),
    ],
)
def test_what_is_no_repository(name: str, error: str) -> None:
    with pytest.raises(UnikernelError, match=error):
        check_repository(name)


def test_tags() -> None:
    for tag in ("latest", "1.2.3-rc_1", "_a", "a" * 128):
        check_tag(tag)
    for tag in ("", "-a", ".a", "a b", "a/b", "a:b", "a" * 129, "a\n"):
        with pytest.raises(UnikernelError, match="is no tag"):
            check_tag(tag)
