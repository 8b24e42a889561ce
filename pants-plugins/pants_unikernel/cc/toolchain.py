"""C toolchains: what compiles and links, as a value, and the discovery of the host's."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from pants.backend.cc.subsystems.compiler import CCSubsystem
from pants.backend.cc.target_types import CXX_SOURCE_FILE_EXTENSIONS, CCLanguage
from pants.core.util_rules.environments import EnvironmentTarget
from pants.core.util_rules.system_binaries import SEARCH_PATHS, BinaryPathRequest, BinaryPaths, BinaryPathTest
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import Digest, FileContent
from pants.engine.process import Process, ProcessCacheScope
from pants.engine.rules import Rule, collect_rules, rule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel
from pants.util.ordered_set import FrozenOrderedSet
from pants.util.strutil import softwrap

from pants_unikernel import engine
from pants_unikernel.cc.target_types import LinkMode

# What a C programmer would type. Everything else that sets flags comes later on the command line, and wins.
DEFAULT_COMPILE_FLAGS = ("-O2", "-g", "-Wall")

# Objects for link-time optimization record the directory unmapped: it must be the same when they are linked elsewhere.
_CURRENT_DIRECTORY = "/proc/self/cwd"

# Paths in the output (debug information, __FILE__) are relative to the build root, whatever the sandbox is called. The
# first name of the sandbox is for hosts without /proc. Pants puts it in.
PREFIX_MAP_FLAGS = ("-ffile-prefix-map={chroot}=.", f"-ffile-prefix-map={_CURRENT_DIRECTORY}=.")

_FINGERPRINT_SCRIPT = "toolchain_fingerprint.py"
_PACKAGES = {"clang": "clang", "clang++": "clang", "gcc": "gcc", "g++": "g++"}


class CompilerNotFoundError(Exception):
    """No compiler for a language that is needed."""


@dataclass(frozen=True)
class CCDriver:
    """A compiler driver for one language. Without a path, `not_found` says what was looked for and how to get it."""

    path: Optional[str]
    not_found: str = ""


@dataclass(frozen=True)
class HostProbe:
    """A program that fingerprints files of the host, to be run as `argv ARGUMENT...`."""

    argv: tuple[str, ...]
    digest: Digest
    cache_scope: ProcessCacheScope


@dataclass(frozen=True)
class CCToolchain:
    """All that compiling and linking depends on, apart from the code and the flags of a target.

    The flags come before those of a target. `fingerprint` stands for what the processes read outside their sandbox, and
    is part of their cache key; `immutable_inputs` are files (a sysroot, a library OS's headers and objects) that they
    find in it. `probe` fingerprints the host's libraries, if targets may link with these.
    """

    c_driver: CCDriver
    cxx_driver: CCDriver
    fingerprint: str
    search_path: tuple[str, ...]
    c_flags: tuple[str, ...] = DEFAULT_COMPILE_FLAGS
    cxx_flags: tuple[str, ...] = DEFAULT_COMPILE_FLAGS
    link_flags: tuple[str, ...] = ()
    env: FrozenDict[str, str] = FrozenDict()
    immutable_inputs: FrozenDict[str, Digest] = FrozenDict()
    probe: Optional[HostProbe] = None

    def driver(self, language: CCLanguage, *, needed_by: str) -> str:
        driver = self.cxx_driver if language is CCLanguage.CXX else self.c_driver
        if driver.path is None:
            raise CompilerNotFoundError(f"{needed_by} can't be built: {driver.not_found}")
        return driver.path

    def compile_flags(self, language: CCLanguage) -> tuple[str, ...]:
        return self.cxx_flags if language is CCLanguage.CXX else self.c_flags

    def for_link_mode(self, mode: LinkMode) -> CCToolchain:
        """This toolchain, with the flags that make such an executable."""
        code = "-fno-pie" if mode is LinkMode.STATIC else "-fPIE"
        link = {LinkMode.STATIC: "-static", LinkMode.STATIC_PIE: "-static-pie", LinkMode.DYNAMIC: "-pie"}[mode]
        return replace(
            self,
            c_flags=(*self.c_flags, code),
            cxx_flags=(*self.cxx_flags, code),
            link_flags=(*self.link_flags, link),
        )

    def process_env(self) -> dict[str, str]:
        """The whole environment of a process. Nothing of the host's environment is in it."""
        return {
            "LC_ALL": "C",
            "PATH": os.pathsep.join(self.search_path),
            # The name that compilers record for the current directory, if it is one. The same in every sandbox.
            "PWD": _CURRENT_DIRECTORY,
            # For __DATE__ and __TIME__. A cached process can't tell the time.
            "SOURCE_DATE_EPOCH": "0",
            # No program reads this one: it makes the fingerprint a part of the cache key.
            "CC_TOOLCHAIN_FINGERPRINT": self.fingerprint,
            **self.env,
        }


@dataclass(frozen=True)
class HostCCToolchain:
    """The toolchain that the `[cc]` options find on the host, for programs that run on the host."""

    toolchain: CCToolchain


def language_of(path: str) -> CCLanguage:
    return CCLanguage.CXX if path.endswith(CXX_SOURCE_FILE_EXTENSIONS) else CCLanguage.C


def subsystem_flags(cc: CCSubsystem, language: CCLanguage) -> tuple[str, ...]:
    """The flags that the `[cc]` options ask for."""
    is_cxx = language is CCLanguage.CXX
    flags = cc.cxx_compiler_flags if is_cxx else cc.c_compiler_flags
    definitions = cc.cxx_definitions if is_cxx else cc.c_definitions
    return (
        *(flags or ()),
        *(f"-D{definition}" for definition in definitions or ()),
        *(f"-I{directory}" for directory in cc.include_directories or ()),
    )


async def expand_search_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """The `[cc].search_paths` option with `<PATH>` replaced by the directories of $PATH."""
    environment = await engine.environment_variables(EnvironmentVarsRequest(["PATH"]))
    on_path = [entry for entry in environment.get("PATH", "").split(os.pathsep) if entry]
    return tuple(FrozenOrderedSet(entry for path in paths for entry in (on_path if path == "<PATH>" else [path])))


def _first_driver(found: Sequence[BinaryPaths], *, language: str, option: str, searched: Sequence[str]) -> CCDriver:
    for binary in found:
        if binary.first_path:
            return CCDriver(binary.first_path.path)
    names = [binary.binary_name for binary in found]
    packages = [_PACKAGES[name] for name in names if name in _PACKAGES]
    fix = f"Install one (for example: `apt-get install {packages[-1]}`)" if packages else "Install one"
    return CCDriver(
        None,
        softwrap(
            f"""
            there is no {language} compiler. Looked for {" and ".join(f"`{name}`" for name in names) or "nothing"}
            (the option `[cc].{option}`) in {", ".join(searched) or "no directory"} (the option `[cc].search_paths`).
            {fix}, or set these options to where it is.
            """
        ),
    )


async def find_python(search_path: Iterable[str], minimum: tuple[int, int]) -> str | None:
    """The path of an interpreter for scripts of our own: the system's, if it is new enough. It is the same then with and without somebody's
    virtual environment on $PATH, and the launchers there, which may take a second, are not tried.
    """
    test = BinaryPathTest(["-c", f"import sys; sys.exit(sys.version_info < {minimum})"], fingerprint_stdout=False)
    for searched in (SEARCH_PATHS, tuple(search_path)):
        (found,) = await engine.find_binaries([BinaryPathRequest(binary_name="python3", search_path=searched, test=test)])
        if found.first_path is not None:
            return found.first_path.path
    return None


async def host_probe(search_path: Iterable[str], cache_scope: ProcessCacheScope) -> HostProbe:
    """The fingerprint script with an interpreter of the host."""
    search_path = tuple(search_path)
    python = await find_python(search_path, (3, 7))
    if python is None:
        raise CompilerNotFoundError(
            softwrap(
                f"""
                There is no `python3` (3.7 or newer) in {", ".join((*search_path, *SEARCH_PATHS))}. Pants needs one to tell a C
                toolchain from its next version: install it (for example: `apt-get install python3-minimal`).
                """
            )
        )
    script = pkgutil.get_data("pants_unikernel.cc", _FINGERPRINT_SCRIPT)
    if script is None:
        raise FileNotFoundError(f"pants_unikernel/cc/{_FINGERPRINT_SCRIPT} is missing from the installed plugin.")
    digest = await engine.create_digest([FileContent(_FINGERPRINT_SCRIPT, script)])
    return HostProbe((python, "-I", "-S", "-B", _FINGERPRINT_SCRIPT), digest, cache_scope)


async def probe_host(probe: HostProbe, arguments: Iterable[str], *, search_path: Iterable[str], description: str) -> str:
    result = await engine.run_process(
        Process(
            (*probe.argv, *arguments),
            env={"LC_ALL": "C", "PATH": os.pathsep.join(search_path)},
            input_digest=probe.digest,
            cache_scope=probe.cache_scope,
            description=description,
            level=LogLevel.DEBUG,
        )
    )
    return result.stdout.decode().strip()


@rule(desc="Find the C and C++ toolchain", level=LogLevel.DEBUG)
async def find_host_cc_toolchain(cc: CCSubsystem, env_target: EnvironmentTarget) -> HostCCToolchain:
    searched = await expand_search_paths(cc.search_paths)
    names = (*cc.c_executable, *cc.cxx_executable, "as", "ld")
    # They are not tried here: without a $PATH, a wrapper such as musl-gcc finds no compiler. The fingerprint runs them with one.
    found = await engine.find_binaries(
        BinaryPathRequest(binary_name=name, search_path=searched, check_file_entries=True) for name in names
    )
    c_count, all_count = len(cc.c_executable), len(cc.c_executable) + len(cc.cxx_executable)
    c_driver = _first_driver(found[:c_count], language="C", option="c_executable", searched=searched)
    cxx_driver = _first_driver(found[c_count:all_count], language="C++", option="cxx_executable", searched=searched)

    # The compiler looks for the assembler and the linker on $PATH. It gets their directories and not the user's $PATH:
    # other programs are none of its business, and a cache key must not depend on the order of somebody's $PATH.
    tools = [c_driver.path, cxx_driver.path]
    tools += [binary.first_path.path for binary in found[all_count:] if binary.first_path]
    search_path = tuple(FrozenOrderedSet(os.path.dirname(tool) for tool in tools if tool))
    drivers = [f"{name}={driver.path}" for name, driver in (("c", c_driver), ("c++", cxx_driver)) if driver.path]
    probe = await host_probe(searched, env_target.executable_search_path_cache_scope())
    fingerprint = await probe_host(
        probe, ["toolchain", *drivers], search_path=search_path, description="Fingerprint the C and C++ toolchain"
    )
    return HostCCToolchain(
        CCToolchain(
            c_driver=c_driver,
            cxx_driver=cxx_driver,
            fingerprint=fingerprint,
            search_path=search_path,
            c_flags=(*DEFAULT_COMPILE_FLAGS, *subsystem_flags(cc, CCLanguage.C)),
            cxx_flags=(*DEFAULT_COMPILE_FLAGS, *subsystem_flags(cc, CCLanguage.CXX)),
            link_flags=("-Wl,--build-id=sha1",),
            probe=probe,
        )
    )


def rules() -> Iterable[Rule]:
    return collect_rules()
