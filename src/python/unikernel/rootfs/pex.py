"""Reads a PEX: what is the application's, what are its distributions, and how it starts.

Format: PEX-INFO is a JSON document (pex/pex_info.py in the pex project); `.deps/` holds the distributions, each one installed wheel as
a directory, or as a wheel or zip file; everything beside PEX's own files is the application. A PEX is a zip file, or a directory of
the same shape (layouts "loose" and "packed").
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unikernel.errors import UnikernelError

PEX_INFO = "PEX-INFO"
DISTRIBUTIONS = ".deps"
# PEX's own files, and what it generates at run time.
_PEX_OWN = ("__main__.py", "__main__.pyc", ".bootstrap", "__pex__", PEX_INFO, "pex", "pex-repl")

# Of an installed wheel, what is not for sys.path: scripts, data files, and PEX's own note on how it is laid out.
_NOT_INSTALLED = (".prefix", ".layout.json")


@dataclass(frozen=True)
class PexFacts:
    """`entry_point` is `module` or `module:function`; `script` the name of a console script, if that is how it starts."""

    entry_point: str | None
    script: str | None
    interpreter_constraints: tuple[str, ...]
    inject_args: tuple[str, ...]
    inject_env: Mapping[str, str]
    requirements: tuple[str, ...]
    distributions: Mapping[str, str]


def is_pex(path: Path) -> bool:
    if path.is_dir():
        return (path / PEX_INFO).is_file()
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return PEX_INFO in archive.namelist()


def unpack_pex(path: Path, destination: Path) -> PexFacts:
    """Lays the application's own files out below `destination/application` and its distributions below `destination/distributions`."""
    application, distributions = destination / "application", destination / "distributions"
    application.mkdir(parents=True)
    distributions.mkdir()
    for member in _members(path):
        top, _, rest = member.name.partition("/")
        if top == DISTRIBUTIONS:
            member.write(distributions / rest)
        elif not (top in _PEX_OWN or _is_bytecode(member.name, application)):
            member.write(application / member.name)
    return read_pex_info(path)


@dataclass(frozen=True)
class _Member:
    name: str
    content: bytes
    executable: bool

    def write(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.content)
        # Distributions bring programs of their own as data, such as a browser's driver.
        target.chmod(0o755 if self.executable else 0o644)


def _members(path: Path) -> Iterator[_Member]:
    """The files of a directory or of a zip archive, in the order of their names."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield _Member(str(file.relative_to(path)), file.read_bytes(), os.access(file, os.X_OK))
        return
    with zipfile.ZipFile(path) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if not info.is_dir():
                yield _Member(_inside(info.filename), archive.read(info), bool(info.external_attr >> 16 & 0o111))


def _is_bytecode(name: str, root: Path) -> bool:
    """Whether a member is the bytecode of a source, which came before it and is in `root`: it is made anew.

    A module may also come as bytecode without a source, beside where that would be.
    """
    return name.endswith(".pyc") and ("__pycache__" in name.split("/") or (root / name[:-1]).exists())


def _inside(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise UnikernelError(f"The archive member {name!r} leads out of the archive.")
    return name


def read_pex_info(path: Path) -> PexFacts:
    if path.is_dir():
        text = (path / PEX_INFO).read_text()
    else:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(PEX_INFO).decode()
    info: dict[str, Any] = json.loads(text)
    return PexFacts(
        entry_point=info.get("entry_point"),
        script=info.get("script"),
        interpreter_constraints=tuple(info.get("interpreter_constraints") or ()),
        inject_args=tuple(info.get("inject_args") or ()),
        inject_env=dict(info.get("inject_env") or {}),
        requirements=tuple(info.get("requirements") or ()),
        distributions=dict(info.get("distributions") or {}),
    )


def wheel_contents(source: Path) -> tuple[bytes | None, dict[str, str]]:
    """The metadata of an installed wheel, if it has any, and the digests (SHA-256, hex) of its files by name, without bytecode."""
    metadata = None
    files = {}
    for member in _members(source):
        parts = member.name.split("/")
        if parts[0] in _NOT_INSTALLED or member.name.endswith(".pyc"):
            continue
        if len(parts) == 2 and (parts[0].endswith(".dist-info"), parts[1]) == (True, "METADATA"):
            metadata = member.content
        files[member.name] = hashlib.sha256(member.content).hexdigest()
    return metadata, files


def unpack_wheel(source: Path, destination: Path) -> list[str]:
    """The files that an installed wheel puts on `sys.path`, from an installed wheel's directory, or from a zip of one.

    A file that is there already stays, as an import would find it first. Returns the names of those that this wheel has otherwise.
    """
    differing = []
    for member in _members(source):
        name = member.name
        parts = name.split("/")
        if parts[0] in _NOT_INSTALLED or _is_bytecode(name, destination):
            continue
        if parts[0].endswith(".data") and len(parts) > 2:
            # A wheel that was not installed: only these two categories go to site-packages (PEP 491).
            if parts[1] not in ("purelib", "platlib"):
                continue
            name = "/".join(parts[2:])
        target = destination / name
        there = target.read_bytes() if target.exists() else None
        # Distributions share a namespace package: an empty marker gives way to one that has content.
        is_marker = name.endswith("__init__.py")
        if there is None or (is_marker and not there.strip()):
            member.write(target)
        elif there != member.content and not (is_marker and not member.content.strip()):
            differing.append(name)
    return differing
