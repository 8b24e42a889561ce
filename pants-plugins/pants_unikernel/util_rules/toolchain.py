"""The programs of this machine that compile kernels and link images, found once, with their versions for the cache's keys."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

from pants.core.util_rules.environments import EnvironmentTarget
from pants.core.util_rules.system_binaries import SEARCH_PATHS, BinaryPath, BinaryPathRequest, BinaryPaths, BinaryPathTest
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.toolchain import host_probe, probe_host
from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.util_rules.failures import UnikernelBuildError

# Program -> the Debian package that brings it. The kernel's makefiles call all of them by name.
_LINK_TOOLS = {"as": "binutils", "ld": "binutils", "strip": "binutils"}
_KERNEL_TOOLS = {
    "ar": "binutils",
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "nm": "binutils",
    "objcopy": "binutils",
    "objdump": "binutils",
    "python3": "python3",
    "tar": "tar",
    "xz": "xz-utils",
}
# Of the shell and what it calls (POSIX's utilities).
_BASIC_DIRECTORIES = ("/usr/bin", "/bin")
_VERSION_TEST = BinaryPathTest(["--version"])
# The steps' own interpreter: which one it is does not matter, so its version is no part of the key. Its path is: the system's own comes
# first, for the key to be the same with and without somebody's virtual environment on PATH.
_PYTHON_TEST = BinaryPathTest(
    ["-c", "import sys; sys.exit(sys.version_info < (3, 9))"],
    fingerprint_stdout=False,
)


@dataclass(frozen=True)
class Toolchain:
    """Paths by program name. `fingerprint` changes with the version of any of them.

    `directories` has those of the programs in the order in which they were searched: a program called by name is the same.
    """

    paths: FrozenDict[str, str]
    directories: tuple[str, ...]
    fingerprint: str

    @property
    def environment(self) -> dict[str, str]:
        """For a process that calls the programs by name; the fingerprint makes their versions part of its cache key."""
        directories = dict.fromkeys((*self.directories, *_BASIC_DIRECTORIES))
        return {"PATH": ":".join(directories), "UNIKERNEL_TOOLCHAIN": self.fingerprint}


@dataclass(frozen=True)
class LinkToolchain(Toolchain):
    """What links images."""


@dataclass(frozen=True)
class KernelToolchain(Toolchain):
    """What compiles kernels."""


@dataclass(frozen=True)
class InitToolchain(Toolchain):
    """What compiles PID 1; `compiler` is the name of the compiler that was found."""

    compiler: str


async def _find(programs: dict[str, str], search_path: tuple[str, ...], purpose: str) -> dict[str, BinaryPath]:
    names = sorted(programs)
    found = await engine.find_binaries(
        BinaryPathRequest(binary_name=name, search_path=(*SEARCH_PATHS, *search_path), test=_PYTHON_TEST)
        if name == "python3"
        else BinaryPathRequest(binary_name=name, search_path=search_path, test=_VERSION_TEST)
        for name in names
    )
    missing = [name for name, paths in zip(names, found) if paths.first_path is None]
    if missing:
        packages = sorted({programs[name] for name in missing})
        raise UnikernelBuildError(
            f"{', '.join(missing)} not found on {':'.join(search_path)}, and needed to {purpose}: install them (on Debian: "
            f"apt-get install {' '.join(packages)}), or set [unikernel-linux].search_path."
        )
    return {name: _first(paths) for name, paths in zip(names, found)}


def _first(paths: BinaryPaths) -> BinaryPath:
    assert paths.first_path is not None
    return paths.first_path


def _paths(found: dict[str, BinaryPath]) -> FrozenDict[str, str]:
    return FrozenDict({name: path.path for name, path in sorted(found.items())})


def _directories(found: dict[str, BinaryPath], search_path: tuple[str, ...]) -> tuple[str, ...]:
    used = {os.path.dirname(path.path) for path in found.values()}
    return tuple(directory for directory in search_path if directory.rstrip("/") in used)


def _fingerprint(found: dict[str, BinaryPath]) -> str:
    text = "\n".join(f"{name} {path.fingerprint}" for name, path in sorted(found.items()) if name != "python3")
    return hashlib.sha256(text.encode()).hexdigest()


@rule(desc="Find the linker", level=LogLevel.DEBUG)
async def find_link_toolchain(environment: UnikernelLinux.EnvironmentAware) -> LinkToolchain:
    found = await _find(_LINK_TOOLS, environment.search_path, "link images")
    return LinkToolchain(_paths(found), _directories(found, environment.search_path), _fingerprint(found))


@rule(desc="Find the kernel's compiler", level=LogLevel.DEBUG)
async def find_kernel_toolchain(environment: UnikernelLinux.EnvironmentAware) -> KernelToolchain:
    found = await _find({**_KERNEL_TOOLS, **_LINK_TOOLS}, environment.search_path, "compile the kernel")
    return KernelToolchain(_paths(found), _directories(found, environment.search_path), _fingerprint(found))


@rule(desc="Find a compiler for PID 1", level=LogLevel.DEBUG)
async def find_init_toolchain(
    linux: UnikernelLinux, environment: UnikernelLinux.EnvironmentAware, env_target: EnvironmentTarget
) -> InitToolchain:
    tools = await _find({**_LINK_TOOLS, "python3": "python3"}, environment.search_path, "link PID 1")
    # Not tried: without a $PATH, a wrapper such as musl-gcc finds no compiler.
    compilers = await engine.find_binaries(
        BinaryPathRequest(binary_name=name, search_path=environment.search_path) for name in linux.init_compiler
    )
    for paths in compilers:
        if paths.first_path is not None:
            found = {**tools, paths.binary_name: paths.first_path}
            directories = (*_directories(found, environment.search_path), *_BASIC_DIRECTORIES)
            # With the C library that it links statically, of which a compiler's version says nothing.
            fingerprint = await probe_host(
                await host_probe(environment.search_path, env_target.executable_search_path_cache_scope()),
                ["toolchain", f"c={paths.first_path.path}"],
                search_path=directories,
                description=f"Fingerprint {paths.binary_name}",
            )
            return InitToolchain(_paths(found), directories, fingerprint, compiler=paths.binary_name)
    raise UnikernelBuildError(
        f"None of the C compilers of [unikernel-linux].init_compiler ({', '.join(linux.init_compiler)}) is on "
        f"{':'.join(environment.search_path)}: install one (on Debian: apt-get install musl-tools)."
    )


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *UnikernelLinux.rules())
