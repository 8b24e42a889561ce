"""What an image is made of, collected from what its parts say of themselves."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import replace

from unikernel.rootfs.layer import LayerIndex
from unikernel.sbom.component import Component, ComponentKind
from unikernel.signing.provenance import Artifact

_KERNEL_LICENSE = "GPL-2.0-only WITH Linux-syscall-note"


def listed_components(indexes: Iterable[LayerIndex]) -> list[Component]:
    """What an SBOM lists of the layers: the application itself without its digest, which provenance has. An edit of its code makes no new
    SBOM.
    """
    indexes = tuple(indexes)
    own = {component for index in indexes if index.name == "application" for component in index.components}
    return [replace(component, sha256="") if component in own else component for component in layer_components(indexes)]


def layer_components(indexes: Iterable[LayerIndex]) -> list[Component]:
    """Beside what the indexes list: the shared libraries that an application brings along, and extra files one by one."""
    components = []
    for index in indexes:
        components += index.components
        files = {entry.path: entry.sha256 for entry in index.entries if entry.sha256}
        if index.name == "application":
            libraries = sorted(path for path in set(index.provides.values()) if path in files)
            components += [_file(ComponentKind.LIBRARY, path, files[path]) for path in libraries]
        elif index.name == "files":
            components += [_file(ComponentKind.FILE, path, sha256) for path, sha256 in sorted(files.items())]
    return components


def layer_inputs(indexes: Iterable[LayerIndex]) -> list[Artifact]:
    """The same as the inputs of a build: the packaged application, the interpreter, distributions, libraries and files."""
    inputs = []
    for index in indexes:
        for component in layer_components([index]):
            if component.sha256:
                name = component.path or f"{component.name} {component.version}".rstrip()
                inputs.append(Artifact(f"{_role(index, component)} {name}", component.sha256, component.purl))
    return inputs


def _role(index: LayerIndex, component: Component) -> str:
    if component.kind is not ComponentKind.APPLICATION:
        return "distribution" if index.name == "distributions" else component.kind.value
    return "interpreter" if index.name == "python" else "app"


def _file(kind: ComponentKind, path: str, sha256: str) -> Component:
    return Component(kind, posixpath.basename(path), sha256=sha256, path=path)


def linux_components(
    kernel_version: str, source_sha256: str, init_version: str, init_sha256: str, init_path: str
) -> list[Component]:
    """The kernel, with the digest of its source, and PID 1. Digests are SHA-256, in hex."""
    kernel = Component(
        ComponentKind.OPERATING_SYSTEM,
        "linux",
        kernel_version,
        f"pkg:generic/linux@{kernel_version}",
        (_KERNEL_LICENSE,),
        source_sha256,
    )
    init = Component(
        ComponentKind.APPLICATION,
        "unikernel-init",
        init_version,
        licenses=("Apache-2.0",),
        sha256=init_sha256,
        path=init_path,
    )
    return [kernel, init]
