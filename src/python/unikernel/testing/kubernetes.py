"""The schemas of Kubernetes, and the real kubectl: the one on PATH, or the one that Debian has."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate

from unikernel.testing.debian_package import program

# The oldest that the package has schemas for, and the newest.
VERSIONS = ("1.25", kubernetes_validate.latest_version())
# The newest release of Debian that is known to have it. It runs on newer ones too.
_RELEASE = "bookworm"


def kubernetes_complaint(document: Mapping[str, Any], version: str = VERSIONS[-1]) -> str:
    """What is wrong with the document, unknown keys included; empty for a valid one."""
    try:
        kubernetes_validate.validate(dict(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error.message
    return ""


@functools.cache
def kubectl() -> str:
    """The path of the program, downloaded once in this process if need be."""
    return program("kubectl", "kubernetes-client", _RELEASE)


def kustomized(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [kubectl(), "kustomize", str(directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
