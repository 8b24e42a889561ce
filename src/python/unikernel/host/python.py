"""Describes and captures an installed CPython."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import packaging
from packaging.tags import compatible_tags, cpython_tags

from unikernel.digests import file_sha256
from unikernel.elf import is_elf, read_elf_file
from unikernel.errors import UnikernelError
from unikernel.host.packages import packages_of
from unikernel.rootfs.libraries import Closure, close_over, expand_search_path, library_directory
from unikernel.rootfs.python_runtime import RuntimeFacts, write_facts

# What can never run in an image: it needs a display, sound, a terminal's description, NIS, a compiler or a package index, or it is
# CPython's own test suite. With a module goes what only it needs (`nis` alone brings Kerberos).
_PRUNED = (
    "__phello__",
    "config-",
    "ctypes/test",
    "curses",
    "distutils/tests",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "lib-dynload/_ctypes_test",
    "lib-dynload/_curses",
    "lib-dynload/_test",
    "lib-dynload/_tkinter",
    "lib-dynload/_xxtestfuzz",
    "lib-dynload/nis",
    "lib-dynload/ossaudiodev",
    "lib-dynload/readline",
    "lib-dynload/xxlimited",
    "lib-dynload/xxsubtype",
    "pydoc_data",
    "sqlite3/test",
    "test",
    "tkinter",
    "turtle",
    "turtledemo",
    "unittest/test",
    "venv",
)
_PRUNED_DIRECTORIES = ("__pycache__", "dist-packages", "site-packages")
# Of what is left, only what the interpreter reads.
_KEPT_SUFFIXES = (".py", ".so", ".txt", ".json", ".csv")

# The image's interpreter runs it, which may be older than those that the toolkit runs on: before
# 3.9, it cannot import `packaging`, and has no sys.platlibdir.
_FACTS_SCRIPT = """
import json, os, platform, site, sys, sysconfig
tags = None
if sys.version_info >= (3, 9):
    sys.path.insert(0, sys.argv[1])
    from packaging.tags import sys_tags
    tags = [str(tag) for tag in sys_tags()]
standard_library = sysconfig.get_path("stdlib")
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": platform.python_version(),
    "series": "%d.%d" % sys.version_info[:2],
    "cache_tag": sys.implementation.cache_tag,
    "machine": platform.machine(),
    "executable": os.path.realpath(sys.executable),
    "standard_library": standard_library,
    "platform_directory": getattr(sys, "platlibdir", os.path.basename(os.path.dirname(standard_library))),
    "dynamic_library": sysconfig.get_config_var("DESTSHARED"),
    "site_packages": site.getsitepackages(["/usr"]),
    "abiflags": getattr(sys, "abiflags", ""),
    "tags": tags,
}))
"""


@dataclass(frozen=True)
class DescribedFile:
    """`destination` is relative to the captured runtime's directory."""

    destination: str
    source: str
    sha256: str


@dataclass(frozen=True)
class PythonDescription:
    facts: RuntimeFacts
    files: tuple[DescribedFile, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PythonDescription:
        document = json.loads(text)
        facts: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document["facts"].items()
        }
        return cls(RuntimeFacts(**facts), tuple(DescribedFile(**file) for file in document["files"]))


def describe_python(interpreter: Path) -> PythonDescription:
    """Raises UnikernelError when it is no CPython, does not run, or a library that it needs is missing."""
    asked = _ask(interpreter)
    executable = Path(asked["executable"])
    if asked["implementation"] != "cpython":
        raise UnikernelError(f"{interpreter} is {asked['implementation']}; only CPython can be put into an image.")
    if not is_elf(executable):
        raise UnikernelError(f"{executable} is not an ELF program: name the interpreter itself, not a wrapper of it.")
    series = asked["series"] + ("t" if "t" in asked["abiflags"] else "")
    standard_library = f"{asked['platform_directory']}/python{series}"
    sources = dict(
        _standard_library(Path(asked["standard_library"]), Path(asked["dynamic_library"] or "/nonexistent"), standard_library)
    )
    sources[f"bin/python{series}"] = executable
    closure, loader = _shared_libraries(sources, asked["machine"])
    beside = []
    for soname, library in closure.libraries.items():
        if "/" not in soname:
            sources[f"libraries/{soname}"] = Path(library.real_path)
            continue
        # python-build-standalone: "$ORIGIN/../lib/libpython3.11.so.1.0". Nothing but that place will do.
        destination = expand_search_path(soname, "bin", asked["machine"])
        if not destination.startswith("lib/"):
            raise UnikernelError(f"{executable} needs {soname} at just that path, which an image cannot give it.")
        beside.append(destination)
        sources[destination] = Path(library.real_path)
    if loader is not None:
        sources[f"libraries/{os.path.basename(loader)}"] = Path(os.path.realpath(loader))
    directory = library_directory(closure, loader, asked["machine"]) if loader is not None else "/usr/lib"
    files = tuple(DescribedFile(destination, str(source), file_sha256(source)) for destination, source in sorted(sources.items()))
    digest = hashlib.sha256("".join(f"{file.destination}\0{file.sha256}\n" for file in files).encode()).hexdigest()
    facts = RuntimeFacts(
        version=asked["version"],
        series=series,
        cache_tag=asked["cache_tag"],
        machine=asked["machine"],
        site_packages=next(path for path in asked["site_packages"] if path.startswith("/usr/lib")),
        tags=tuple(asked["tags"]),
        libraries=tuple(sorted(soname for soname in closure.libraries if "/" not in soname)),
        beside=tuple(sorted(beside)),
        platform_directory=asked["platform_directory"],
        loader=loader,
        library_directory=directory,
        sha256=digest,
        purls=_purls({name: path for name, path in sources.items() if name.startswith(("bin/", "libraries/")) or name in beside}),
    )
    return PythonDescription(facts, files)


def _purls(sources: Mapping[str, Path]) -> dict[str, str]:
    """The packages that brought files to this machine, by destination."""
    packages = packages_of(str(path) for path in sources.values())
    return {destination: packages[str(path)].purl for destination, path in sorted(sources.items()) if str(path) in packages}


def capture_python(description: PythonDescription, destination: Path) -> None:
    """Copies what was described to `destination`. Raises UnikernelError when the machine has changed since."""
    for file in description.files:
        target = destination / file.destination
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(file.source, target)
        except OSError as error:
            raise UnikernelError(f"{file.source} cannot be captured: {error.strerror}; run the build again.") from error
        if file_sha256(target) != file.sha256:
            raise UnikernelError(f"{file.source} changed while the interpreter was captured; run the build again.")
        is_program = file.destination.startswith(("bin/", "libraries/")) or ".so" in target.suffixes
        target.chmod(0o755 if is_program else 0o644)
    write_facts(destination, description.facts)


def _ask(interpreter: Path) -> dict[str, Any]:
    packaging_root = os.path.dirname(os.path.dirname(os.path.abspath(packaging.__file__)))
    try:
        result = subprocess.run(
            [str(interpreter), "-I", "-B", "-c", _FACTS_SCRIPT, packaging_root],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"LC_ALL": "C.UTF-8"},
        )
    except OSError as error:
        raise UnikernelError(f"The Python interpreter {interpreter} cannot be run: {error.strerror}.") from error
    if result.returncode != 0:
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UnikernelError(f"The Python interpreter {interpreter} does not work: {''.join(last)}")
    asked: dict[str, Any] = json.loads(result.stdout)
    if asked["tags"] is None:
        asked["tags"] = wheel_tags(asked["series"], asked["abiflags"])
    return asked


def wheel_tags(series: str, abiflags: str) -> list[str]:
    """Return the wheel tags that a CPython of this series accepts on this host, best first."""
    major, minor = map(int, series.split("."))
    interpreter = f"cp{major}{minor}"
    abis = [f"{interpreter}{abiflags}"]
    if "d" in abiflags:
        # A debug build takes the wheels of a release build as well.
        abis.append(f"{interpreter}{abiflags.replace('d', '')}")
    tags = [*cpython_tags((major, minor), abis), *compatible_tags((major, minor), interpreter)]
    return [str(tag) for tag in tags]


def _standard_library(root: Path, dynamic: Path, destination: str) -> Iterator[tuple[str, Path]]:
    places = [(root, "")]
    if dynamic.is_dir() and root not in dynamic.parents:
        places.append((dynamic, "lib-dynload/"))
    for top, prefix in places:
        for directory, subdirectories, files in os.walk(top):
            relative = prefix if directory == str(top) else f"{prefix}{os.path.relpath(directory, top)}/"
            subdirectories[:] = [
                name for name in subdirectories if name not in _PRUNED_DIRECTORIES and not _is_pruned(relative + name)
            ]
            for name in files:
                source = os.path.realpath(os.path.join(directory, name))
                # A distribution may have links to files of packages that are not installed.
                if name.endswith(_KEPT_SUFFIXES) and not _is_pruned(relative + name) and os.path.isfile(source):
                    yield f"{destination}/{relative}{name}", Path(source)


def _is_pruned(relative: str) -> bool:
    for pruned in _PRUNED:
        if relative.startswith(pruned):
            rest = relative[len(pruned) :]
            # `config-3.11-...` and `lib-dynload/_test...` are families; a plain name has to match as a whole.
            if pruned.endswith("-") or "/" in pruned or not rest or rest[0] in "/.":
                return True
    return False


def _shared_libraries(sources: dict[str, Path], machine: str) -> tuple[Closure, str | None]:
    needed = []
    loader = None
    for destination, source in sorted(sources.items()):
        if destination.endswith(".py") or not is_elf(source):
            continue
        facts = read_elf_file(source)
        loader = loader or facts.interpreter
        needed += [(soname, str(source), facts) for soname in facts.needed]
    closure = close_over(needed, (), machine, loader)
    for soname, needed_by in sorted(closure.missing.items()):
        raise UnikernelError(
            f"{needed_by} needs {soname}, which this machine does not have: install the package that brings it, or use "
            "another interpreter."
        )
    return closure, loader
