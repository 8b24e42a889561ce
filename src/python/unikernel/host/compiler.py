"""What a library OS's compiler links a program with on this machine: for an image's manifest and its SBOM."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.host.packages import packages_of

_TRACED_FILE = re.compile(r"^\(?(?P<path>/[^()\s]+)")
_VERSION = re.compile(r"\bv?(\d+(?:\.\d+)+[\w.+-]*)")
_EMPTY_PROGRAM = "int main(void) { return 0; }\n"


@dataclass(frozen=True)
class LinkedFile:
    """A start-up object or an archive. `purl` names the package that brought it, and `version` is that one's, as far as it is known."""

    path: str
    sha256: str
    purl: str
    version: str


@dataclass(frozen=True)
class CompilerDescription:
    """`version` is the first line of what the compiler says of itself; `library_version` is the library OS's, as far as it is known."""

    version: str
    library_version: str
    files: tuple[LinkedFile, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> CompilerDescription:
        document = json.loads(text)
        return cls(document["version"], document["library_version"], tuple(LinkedFile(**file) for file in document["files"]))


def describe_compiler(
    compiler: str, flags: Sequence[str], scratch: Path, *, version_command: Sequence[str] = ()
) -> CompilerDescription:
    """`version_command` prints the version of the library OS that is linked with.

    Raises UnikernelError when the compiler does not link an empty program with these flags.
    """
    source = scratch / "empty.c"
    source.write_text(_EMPTY_PROGRAM)
    version = _output([compiler, "--version"]).splitlines()[:1]
    # A library OS may call functions that only an application has.
    link = [*flags, str(source), "-o", str(scratch / "empty"), "-Wl,--trace", "-Wl,--unresolved-symbols=ignore-all"]
    trace = _output([compiler, *link])
    matches = (_TRACED_FILE.match(line) for line in trace.splitlines())
    found = {os.path.realpath(match["path"]) for match in matches if match}
    paths = sorted(
        path for path in found if os.path.isfile(path) and scratch not in Path(path).parents and path.endswith((".a", ".o"))
    )
    packages = packages_of(paths)
    files = []
    for path in paths:
        package = packages.get(path)
        purl, package_version = (package.purl, package.version) if package is not None else ("", "")
        files.append(LinkedFile(path, file_sha256(Path(path)), purl, package_version))
    if version_command:
        library_version = _printed_version(version_command)
    else:
        library_version = next((file.version for file in files if os.path.basename(file.path) == "libc.a"), "")
    return CompilerDescription("".join(version), library_version, tuple(files))


def _printed_version(command: Sequence[str]) -> str:
    """The first word that looks like a version, whatever the command's status."""
    match = _VERSION.search(_run(command).stdout)
    return match[1] if match else ""


def _output(command: Sequence[str]) -> str:
    result = _run(command)
    if result.returncode != 0:
        last = "\n".join(result.stdout.strip().splitlines()[-5:])
        raise UnikernelError(f"{command[0]} does not link an empty program: is all that belongs to it installed?\n{last}")
    return result.stdout


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")
    except OSError as error:
        raise UnikernelError(f"{command[0]} cannot be run: {error.strerror}.") from error
