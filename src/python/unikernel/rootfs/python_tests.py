"""The layer that makes a Python application's image one of its tests: they are laid out beside the application's code, pytest in a
directory of its own, and pytest starts instead of the application. Nothing of the image is replaced: this layer is below all others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

import unikernel.image_test
from unikernel.errors import UnikernelError
from unikernel.rootfs.application import APPLICATION_DIRECTORY
from unikernel.rootfs.distributions import select_wheels
from unikernel.rootfs.elf_scan import note_tls, scan_elf_files
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.rootfs.pex import unpack_pex, unpack_wheel
from unikernel.rootfs.python_runtime import PythonRuntime, add_python_tree

TESTS_DIRECTORY = "/usr/lib/unikernel-tests"
SITE_PACKAGES = f"{TESTS_DIRECTORY}/site-packages"
_RUNNER = f"{TESTS_DIRECTORY}/run.py"


@dataclass(frozen=True)
class PytestSettings:
    """What pytest starts with: see image_test/pytest_in_guest.py."""

    arguments: tuple[str, ...]
    root: str = APPLICATION_DIRECTORY
    path: tuple[str, ...] = (SITE_PACKAGES,)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def read(cls, path: Path) -> PytestSettings:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return cls(tuple(document["arguments"]))


def project_of(wheel: str) -> str:
    """The distribution's name, normalised, of a wheel's file name; what is no wheel is its own name."""
    try:
        return parse_wheel_filename(wheel)[0]
    except InvalidWheelFilename:
        return canonicalize_name(wheel)


def build_python_tests_layer(
    sources: Path,
    pexes: Sequence[Path],
    settings: PytestSettings,
    runtime: PythonRuntime,
    without: Collection[str],
    scratch: Path,
) -> tuple[Layer, LayerIndex]:
    """`sources` are what the tests import and read, by their places in the application's directory. Of the distributions in `pexes` an
    earlier PEX's are taken, and none of `without` (names of wheels): those are the application's own.

    Raises UnikernelError when a distribution does not fit the image's interpreter, and when pytest is not among them.
    """
    site_packages = scratch / "site-packages"
    site_packages.mkdir()
    there = {project_of(name) for name in without}
    facts = runtime.facts
    for number, pex in enumerate(pexes):
        unpacked = scratch / str(number)
        unpack_pex(pex, unpacked)
        raw = unpacked / "distributions"
        names = select_wheels([path.name for path in raw.iterdir()], facts.tags, facts.version)
        for name in names:
            if project_of(name) not in there:
                unpack_wheel(raw / name, site_packages)
        there |= {project_of(name) for name in names}
    if "pytest" not in there:
        raise UnikernelError("There is no pytest among the requirements of `[pytest]`, nor among those of the tests.")
    layer = Layer("tests")
    add_python_tree(layer, SITE_PACKAGES, site_packages, runtime, scratch)
    add_python_tree(layer, APPLICATION_DIRECTORY, sources, runtime, scratch / "application")
    runner = Path(unikernel.image_test.__path__[0], "pytest_in_guest.py")
    layer.add_file(_RUNNER, runner, 0o644)
    layer.add_bytes(f"{TESTS_DIRECTORY}/pytest.json", settings.to_json())
    index = LayerIndex("tests", [])
    # pytest keeps its bytecode of tests nowhere: they run once.
    index.facts["start_instead"] = {
        "program": runtime.executable,
        "arguments": [f"python{facts.series}", "-s", "-B", _RUNNER],
        "default_arguments": [],
    }
    found = scan_elf_files(layer, index, facts.machine)
    note_tls(layer, index, found)
    return layer, index
