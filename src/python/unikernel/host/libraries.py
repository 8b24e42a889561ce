"""Describes and captures shared libraries that an application needs and does not bring along."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.elf import ElfFacts, ElfKind
from unikernel.errors import UnikernelError
from unikernel.host.packages import packages_of
from unikernel.rootfs.elf_scan import note_tls, scan_elf_files
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.libraries import close_over, default_directories, library_directory
from unikernel.sbom.native_library import native_library


@dataclass(frozen=True)
class DescribedLibrary:
    """`destination` is the path in the image, `source` the one on this machine; `purl` names the package that brought it there."""

    soname: str
    destination: str
    source: str
    sha256: str
    purl: str = ""


@dataclass(frozen=True)
class LibrariesDescription:
    machine: str
    libraries: tuple[DescribedLibrary, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> LibrariesDescription:
        document = json.loads(text)
        return cls(document["machine"], tuple(DescribedLibrary(**library) for library in document["libraries"]))


def describe_libraries(
    needs: Mapping[str, str],
    loaders: Mapping[str, str],
    provides: Sequence[str],
    machine: str,
    root: Path = Path("/"),
    searched: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
) -> LibrariesDescription:
    """The libraries that `needs` (soname -> who needs it) lead to, with the loaders (path -> who asks for it) that load them.

    `searched` has the directories in which the loader looks for a needed name before its own: see LayerIndex. What other layers
    already have is in `provides`. Raises UnikernelError naming each library that is nowhere, and who needs it.
    """
    loader = next(iter(sorted(loaders)), None)
    asking = ElfFacts(ElfKind.DYNAMIC, machine, 64, loader, None, (), (), ())
    needed = []
    for soname, needed_by in sorted(needs.items()):
        directories = (searched or {}).get(soname, {})
        rpath, runpath = (tuple(directories.get(name, ())) for name in ("rpath", "runpath"))
        needed.append((soname, needed_by, replace(asking, rpath=rpath, runpath=runpath)))
    closure = close_over(needed, provides, machine, loader, root)
    lost = dict(closure.missing)
    libraries = []
    directory = library_directory(closure, loader, machine, root)
    defaults = default_directories(machine, root, loader)
    for soname, library in sorted(closure.libraries.items()):
        # One that was found by a path (in its needed name, or an RPATH) is found by that in the image too.
        by_path = "/" in soname or os.path.dirname(library.path) not in defaults
        destination = library.path if by_path else f"{directory}/{soname}"
        libraries.append(DescribedLibrary(soname, destination, library.real_path, file_sha256(Path(library.real_path))))
    for path, needed_by in sorted(loaders.items()):
        source = Path(os.path.realpath(root / path.lstrip("/")))
        if source.is_file():
            libraries.append(DescribedLibrary(os.path.basename(path), path, str(source), file_sha256(source)))
        else:
            lost[path] = needed_by
    if lost:
        raise UnikernelError(
            "; ".join(f"{needed_by} needs {name}" for name, needed_by in sorted(lost.items()))
            + ": neither the application nor this machine has it. Install the package that brings it, put it into the "
            "application, or link statically."
        )
    packages = packages_of(library.source for library in libraries)
    return LibrariesDescription(
        machine,
        tuple(
            replace(library, purl=packages[library.source].purl) if library.source in packages else library for library in libraries
        ),
    )


def capture_libraries(description: LibrariesDescription) -> tuple[Layer, LayerIndex]:
    """The layer of what was described. Raises UnikernelError when the machine has changed since."""
    layer = Layer("libraries")
    components = []
    for library in description.libraries:
        source = Path(library.source)
        if not source.is_file() or file_sha256(source) != library.sha256:
            raise UnikernelError(f"{library.source} changed while it was captured; run the build again.")
        layer.add_file(library.destination, source, 0o755)
        components.append(native_library(library.destination, library.sha256, library.purl))
    index = LayerIndex("libraries", [], components=components)
    found = scan_elf_files(layer, index, description.machine)
    note_tls(layer, index, found)
    return layer, index
