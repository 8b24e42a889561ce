"""The layer of third-party distributions. It changes when they do, and not when the application's code does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from unikernel.errors import UnikernelError
from unikernel.rootfs.elf_scan import note_tls, scan_elf_files
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.needs import tree_needs
from unikernel.rootfs.pex import unpack_wheel, wheel_contents
from unikernel.rootfs.python_runtime import PythonRuntime, add_python_tree
from unikernel.rootfs.raw_distributions import unpack_distributions
from unikernel.sbom.component import Component, ComponentKind, files_digest
from unikernel.sbom.python_distribution import distribution_component

# "CPython>=3.9,<3.12", ">=3.9", "CPython[free-threaded]==3.13.*"
_CONSTRAINT = re.compile(r"(?P<implementation>[A-Za-z]+)?(\[[^]]*\])?(\+t)?\s*(?P<versions>.*)")


def build_distributions_layer(archive: Path, runtime: PythonRuntime, scratch: Path) -> tuple[Layer, LayerIndex]:
    """Raises UnikernelError when the distributions were resolved for another interpreter or machine than the image's."""
    raw, site_packages = scratch / "raw", scratch / "site-packages"
    site_packages.mkdir()
    constraints = unpack_distributions(archive, raw)
    facts = runtime.facts
    check_interpreter(constraints, facts.version)
    names = select_wheels([path.name for path in raw.iterdir()], facts.tags, facts.version)
    replaced = {name: unpack_wheel(raw / name, site_packages) for name in names}
    layer = Layer("distributions")
    components = [_component(raw / name) for name in names]
    index = LayerIndex("distributions", [], components=components, facts={"distributions": names})
    index.facts["replaced"] = {name: files for name, files in replaced.items() if files}
    index.facts["uncompiled"] = add_python_tree(layer, facts.site_packages, site_packages, runtime, scratch)
    index.facts["needs"] = [need.to_document() for need in tree_needs(site_packages, runtime, certain=False)]
    found = scan_elf_files(layer, index, facts.machine)
    note_tls(layer, index, found)
    return layer, index


def _component(wheel: Path) -> Component:
    metadata, files = wheel_contents(wheel)
    found = distribution_component(metadata, files) if metadata is not None else None
    return found or Component(ComponentKind.LIBRARY, wheel.name, sha256=files_digest(files))


def check_interpreter(constraints: Sequence[str], version: str) -> None:
    """Raises UnikernelError when an application was resolved for other interpreters than this one."""
    if not constraints:
        return
    # CPython built from its repository calls itself "3.14.0a1+".
    image = Version(version.rstrip("+"))
    for constraint in constraints:
        match = _CONSTRAINT.fullmatch(constraint.strip())
        if match is None or match["implementation"] not in (None, "CPython"):
            continue
        try:
            admitted = SpecifierSet(match["versions"], prereleases=True)
        except InvalidSpecifier:
            continue
        if image in admitted:
            return
    raise UnikernelError(
        f"The application was resolved for {' or '.join(constraints)}, but the interpreter of the image is "
        f"CPython {version}: set the application's interpreter_constraints so that they admit one that is installed."
    )


def select_wheels(names: Sequence[str], tags: tuple[str, ...], version: str) -> list[str]:
    """Of several wheels of one distribution the one that the interpreter likes best. `tags` are its tags, best first.

    Raises UnikernelError for a distribution of which no wheel fits: a foreign architecture, another ABI.
    """
    rank = {tag: position for position, tag in enumerate(tags)}
    by_distribution: dict[str, list[tuple[int, str]]] = {}
    unfit: dict[str, list[str]] = {}
    for name in sorted(names):
        try:
            project, _, _, wheel_tags = parse_wheel_filename(name)
        except InvalidWheelFilename:
            by_distribution.setdefault(name, []).append((0, name))
            continue
        ranks = [rank[str(tag)] for tag in wheel_tags if str(tag) in rank]
        if ranks:
            by_distribution.setdefault(project, []).append((min(ranks), name))
        else:
            unfit.setdefault(project, []).append(name)
    for distribution, wheels in sorted(unfit.items()):
        if distribution not in by_distribution:
            raise UnikernelError(
                f"No wheel of {distribution} fits the interpreter of the image (CPython {version}, {tags[0]}); the application has "
                f"{', '.join(wheels)}. Resolve the application for that interpreter and machine."
            )
    return sorted(min(candidates)[1] for candidates in by_distribution.values())
