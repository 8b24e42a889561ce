"""Names of repositories and tags, as registries take them.

Grammar: distribution/reference, reference.go; opencontainers/distribution-spec, "Pulling manifests".
"""

from __future__ import annotations

import re

from unikernel.errors import UnikernelError

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LONGEST = 255


def check_repository(name: str) -> None:
    """Of a repository with its registry before it, such as "localhost:5000/team/service". Raises UnikernelError."""
    host, slash, path = name.partition("/")
    if not _HOST.fullmatch(host) or not slash:
        raise UnikernelError(f"{name!r} is no repository: it begins with a registry's address, such as registry.example.com:5000/.")
    if not all(_COMPONENT.fullmatch(component) for component in path.split("/")) or len(name) > _LONGEST:
        raise UnikernelError(
            f"{path!r} is no name of a repository: it has parts of small letters and digits, with a dot, hyphens or underscores between "
            "them, and slashes between the parts."
        )


def check_tag(tag: str) -> None:
    """Raises UnikernelError."""
    if not _TAG.fullmatch(tag):
        raise UnikernelError(
            f"{tag!r} is no tag: it has letters, digits, dots, hyphens and underscores, 128 at most, and begins with no dot or hyphen."
        )
