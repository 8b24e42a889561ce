"""The programs of this machine that compile kernels and link images, found once, with their versions for the cache's keys."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

from pants.core.util_rules.environments import EnvironmentTarget
from pants.core.util_rules.system_binaries import BinaryPathRequest
from pants.engine.process import ProcessCacheScope
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.toolchain import find_python, host_probe, probe_host
from pants_unikernel.linux_types import BASIC_DIRECTORIES, InitToolchain, KernelToolchain, LinkToolchain
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
# The steps' own interpreter: which one it is does not matter, so its version is no part of the key.
_PYTHON = "python3"
_OLDEST_PYTHON = (3, 9)


@dataclass(frozen=True)
class _Program:
    """`version` is the SHA-256, in hex, of what it says of its version."""

    path: str
    version: str


async def _find(
    programs: dict[str, str], search_path: tuple[str, ...], cache_scope: ProcessCacheScope, purpose: str
) -> dict[str, _Program]:
    """In one process: Pants' own search starts one for each name, and one more for each file that it finds."""
    names = [name for name in sorted(programs) if name != _PYTHON]
    listing = await probe_host(
        await host_probe(search_path, cache_scope),
        ["programs", *names],
        search_path=search_path,
        description=f"Find {', '.join(names)}",
    )
    found = {name: _Program(**program) for name, program in json.loads(listing).items()}
    if _PYTHON in programs:
        python = await find_python(search_path, _OLDEST_PYTHON)
        found.update({} if python is None else {_PYTHON: _Program(python, "")})
    missing = [name for name in sorted(programs) if name not in found]
    if missing:
        packages = sorted({programs[name] for name in missing})
        raise UnikernelBuildError(
            f"{', '.join(missing)} not found on {':'.join(search_path)}, and needed to {purpose}: install them (on Debian: "
            f"apt-get install {' '.join(packages)}), or set [unikernel-linux].search_path."
        )
    return found


def _paths(found: dict[str, _Program]) -> FrozenDict[str, str]:
    return FrozenDict({name: path.path for name, path in sorted(found.items())})


def _directories(found: dict[str, _Program], search_path: tuple[str, ...]) -> tuple[str, ...]:
    used = {os.path.dirname(path.path) for path in found.values()}
    return tuple(directory for directory in search_path if directory.rstrip("/") in used)


def _fingerprint(found: dict[str, _Program]) -> str:
    text = "\n".join(f"{name} {program.version}" for name, program in sorted(found.items()) if name != _PYTHON)
    return hashlib.sha256(text.encode()).hexdigest()


@rule(desc="Find the linker", level=LogLevel.DEBUG)
async def find_link_toolchain(environment: UnikernelLinux.EnvironmentAware, env_target: EnvironmentTarget) -> LinkToolchain:
    scope = env_target.executable_search_path_cache_scope()
    found = await _find(_LINK_TOOLS, environment.search_path, scope, "link images")
    return LinkToolchain(_paths(found), _directories(found, environment.search_path), _fingerprint(found))


@rule(desc="Find the kernel's compiler", level=LogLevel.DEBUG)
async def find_kernel_toolchain(environment: UnikernelLinux.EnvironmentAware, env_target: EnvironmentTarget) -> KernelToolchain:
    scope = env_target.executable_search_path_cache_scope()
    found = await _find({**_KERNEL_TOOLS, **_LINK_TOOLS}, environment.search_path, scope, "compile the kernel")
    return KernelToolchain(_paths(found), _directories(found, environment.search_path), _fingerprint(found))


@rule(desc="Find a compiler for PID 1", level=LogLevel.DEBUG)
async def find_init_toolchain(
    linux: UnikernelLinux, environment: UnikernelLinux.EnvironmentAware, env_target: EnvironmentTarget
) -> InitToolchain:
    scope = env_target.executable_search_path_cache_scope()
    tools = await _find({**_LINK_TOOLS, _PYTHON: "python3"}, environment.search_path, scope, "link PID 1")
    # Not tried: without a $PATH, a wrapper such as musl-gcc finds no compiler.
    compilers = await engine.find_binaries(
        BinaryPathRequest(binary_name=name, search_path=environment.search_path) for name in linux.init_compiler
    )
    for paths in compilers:
        if paths.first_path is not None:
            found = {**tools, paths.binary_name: _Program(paths.first_path.path, "")}
            directories = (*_directories(found, environment.search_path), *BASIC_DIRECTORIES)
            # With the C library that it links statically, of which a compiler's version says nothing.
            fingerprint = await probe_host(
                await host_probe(environment.search_path, scope),
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
