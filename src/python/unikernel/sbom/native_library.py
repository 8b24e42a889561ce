"""A shared library as a component."""

from __future__ import annotations

import posixpath

from packageurl import PackageURL

from unikernel.sbom.component import Component, ComponentKind


def native_library(path: str, sha256: str, purl: str) -> Component:
    """The file at `path` in the image. `purl` names the package that brought it, as far as that is known."""
    version = PackageURL.from_string(purl).version if purl else None
    return Component(ComponentKind.LIBRARY, posixpath.basename(path), version or "", purl, sha256=sha256, path=path)
