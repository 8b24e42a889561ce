"""A Python runtime for tests that only have to compile modules, and wheels and PEX files made by hand."""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

from packaging.tags import sys_tags

from unikernel.rootfs.python_runtime import PythonRuntime, RuntimeFacts

SERIES = "{}.{}".format(*sys.version_info[:2])
Content = str


def linked_runtime(root: Path) -> PythonRuntime:
    """The interpreter at hand as a runtime, by links: in no time, unlike a captured one. Its layer cannot be made."""
    (root / "bin").mkdir(parents=True)
    (root / "lib").mkdir()
    (root / f"bin/python{SERIES}").symlink_to(os.path.realpath(sys.executable))
    (root / f"lib/python{SERIES}").symlink_to(sysconfig.get_path("stdlib"))
    facts = RuntimeFacts(
        version=platform.python_version(),
        series=SERIES,
        cache_tag=str(sys.implementation.cache_tag),
        machine="x86_64",
        site_packages=f"/usr/lib/python{SERIES}/site-packages",
        tags=tuple(str(tag) for tag in sys_tags()),
        libraries=(),
        loader=None,
        library_directory="/usr/lib",
        sha256="",
    )
    return PythonRuntime(root, facts)


def write_tree(root: Path, files: Mapping[str, Content]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def write_zip(path: Path, files: Mapping[str, Content], executable: tuple[str, ...] = ()) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(info, content)
    return path


def pex_info(**settings: object) -> str:
    return json.dumps({"entry_point": None, "interpreter_constraints": [], "distributions": {}, **settings})


def wheel(name: str, files: Mapping[str, Content], tag: str = "py3-none-any", version: str = "1.0") -> dict[str, Content]:
    """The files of an installed wheel in a PEX, by their names in it."""
    top = f".deps/{name}-{version}-{tag}.whl"
    metadata = {f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"}
    return {f"{top}/{path}": content for path, content in {**files, **metadata}.items()}
