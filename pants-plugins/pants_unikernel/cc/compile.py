"""Compiling C and C++: one process for each translation unit."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from pants.backend.cc.target_types import CC_SOURCE_FILE_EXTENSIONS, CCLanguage, CCSourceField
from pants.core.target_types import FileSourceField, ResourceSourceField
from pants.core.util_rules.source_files import SourceFilesRequest
from pants.engine.addresses import Address
from pants.engine.fs import EMPTY_DIGEST, Digest
from pants.engine.process import FallibleProcessResult, Process
from pants.engine.target import SourcesField, Target
from pants.source.source_root import SourceRootsRequest
from pants.util.logging import LogLevel
from pants.util.ordered_set import FrozenOrderedSet
from pants.util.strutil import pluralize, softwrap

from pants_unikernel import engine
from pants_unikernel.cc.toolchain import PREFIX_MAP_FLAGS, CCToolchain, language_of

logger = logging.getLogger(__name__)

# Objects have a directory of their own, so that a binary can be called like a directory of sources.
OBJECTS_DIRECTORY = "__objects__"

# What a compiler may read of a target that it does not compile, and a linker besides objects.
_DATA_FIELDS = (FileSourceField, ResourceSourceField)

# "fatal error: x.h: No such file or directory" (gcc), "fatal error: 'x.h' file not found" (clang).
_MISSING_HEADER = re.compile(r"fatal error: (?P<name>\S+?): No such file|fatal error: '(?P<clang>.+?)' file not found")


class CompileError(Exception):
    """The compiler rejected a source."""


@dataclass(frozen=True)
class CompileOptions:
    """Flags of a target. They follow those of the toolchain; those for one language come last."""

    flags: tuple[str, ...] = ()
    c_flags: tuple[str, ...] = ()
    cxx_flags: tuple[str, ...] = ()

    def for_language(self, language: CCLanguage) -> tuple[str, ...]:
        return (*self.flags, *(self.cxx_flags if language is CCLanguage.CXX else self.c_flags))


@dataclass(frozen=True)
class TranslationUnit:
    """A source to compile. More than one target may own it: it is compiled once, with the headers of all of them. None owns one that was
    made for a link.
    """

    path: str
    addresses: tuple[Address, ...]

    @property
    def language(self) -> CCLanguage:
        return language_of(self.path)

    @property
    def object_path(self) -> str:
        # The source's extension stays, for x.c and x.cc in one directory.
        return f"{OBJECTS_DIRECTORY}/{self.path}.o"


@dataclass(frozen=True)
class CompiledObjects:
    """The objects of some translation units, which are in the order of their paths."""

    digest: Digest
    units: tuple[TranslationUnit, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(unit.object_path for unit in self.units)

    @property
    def language(self) -> CCLanguage:
        """The language whose driver links these: C++ when any of them is C++."""
        return CCLanguage.CXX if any(unit.language is CCLanguage.CXX for unit in self.units) else CCLanguage.C


def is_translation_unit(target: Target) -> bool:
    return target.has_field(CCSourceField) and target[CCSourceField].file_path.endswith(CC_SOURCE_FILE_EXTENSIONS)


def translation_units(targets: Iterable[Target]) -> tuple[TranslationUnit, ...]:
    owners: defaultdict[str, set[Address]] = defaultdict(set)
    for target in targets:
        if is_translation_unit(target):
            owners[target[CCSourceField].file_path].add(target.address)
    return tuple(TranslationUnit(path, tuple(sorted(addresses))) for path, addresses in sorted(owners.items()))


def data_sources_request(targets: Iterable[Target]) -> SourceFilesRequest:
    """The files and resources among these targets, made first if need be."""
    fields = (target.get(SourcesField) for target in targets)
    return SourceFilesRequest(fields, for_sources_types=_DATA_FIELDS, enable_codegen=True)


@dataclass(frozen=True)
class _UnitInputs:
    unit: TranslationUnit
    digest: Digest
    include_directories: tuple[str, ...]


async def _find_unit_inputs(units: tuple[TranslationUnit, ...]) -> tuple[_UnitInputs, ...]:
    """For each unit the source and what it may include: the headers and files in its own transitive dependencies."""
    addresses = [address for unit in units for address in unit.addresses]
    closures = dict(zip(addresses, await engine.transitive_targets_of_each(addresses)))
    readable: list[list[Target]] = []
    for unit in units:
        closure = FrozenOrderedSet(target for address in unit.addresses for target in closures[address].closure)
        # Other sources are in the closure too, if the unit's target depends on theirs. Changing them must not matter.
        readable.append(
            [
                target
                for target in sorted(closure, key=lambda target: target.address)
                if not is_translation_unit(target) or target[CCSourceField].file_path == unit.path
            ]
        )
    sources = await engine.source_files_of_each(
        SourceFilesRequest(
            (target.get(SourcesField) for target in targets),
            for_sources_types=(CCSourceField, *_DATA_FIELDS),
            enable_codegen=True,
        )
        for targets in readable
    )
    files = [
        sorted({target[CCSourceField].file_path for target in targets if target.has_field(CCSourceField)}) for targets in readable
    ]
    roots = await engine.source_roots(SourceRootsRequest.for_files({path for paths in files for path in paths}))
    # The unit's own source root comes first: it wins if two roots have a header of that name.
    return tuple(
        _UnitInputs(
            unit,
            source.snapshot.digest,
            tuple(
                FrozenOrderedSet(roots.path_to_root[PurePath(path)].path for path in (unit.path, *paths)),
            ),
        )
        for unit, source, paths in zip(units, sources, files)
    )


def compile_process(inputs: _UnitInputs, toolchain: CCToolchain, options: CompileOptions, *, driver: str) -> Process:
    unit = inputs.unit
    return Process(
        (
            driver,
            *toolchain.compile_flags(unit.language),
            *options.for_language(unit.language),
            *(f"-I{directory}" for directory in inputs.include_directories),
            *PREFIX_MAP_FLAGS,
            # Names of otherwise random symbols: anonymous namespaces, LTO sections.
            f"-frandom-seed={unit.path}",
            "-c",
            unit.path,
            "-o",
            unit.object_path,
        ),
        env=toolchain.process_env(),
        input_digest=inputs.digest,
        immutable_input_digests=toolchain.immutable_inputs,
        output_files=(unit.object_path,),
        description=f"Compile {unit.path}",
        level=LogLevel.INFO,
    )


def _messages(unit: TranslationUnit, result: FallibleProcessResult) -> str:
    """What the compiler printed, unchanged, below the address of the target."""
    printed = (result.stdout + result.stderr).decode(errors="replace").strip("\n")
    owner = unit.addresses[0] if unit.addresses else unit.path
    return f"{owner}:\n{printed or f'the compiler exited with status {result.exit_code}'}"


def _missing_headers_advice(printed: str) -> str:
    names = sorted({match.group("name") or match.group("clang") for match in _MISSING_HEADER.finditer(printed)})
    if not names:
        return ""
    return softwrap(
        f"""
        Not found: {", ".join(names)}. A source sees the headers in its own dependencies. Pants infers these from
        `#include "..."` with a path that starts at the including file's directory or at a source root, without `..`.
        Add other headers to the `dependencies` of the source's target, or install the package of a system header.
        """
    )


def _report(units: Iterable[TranslationUnit], results: Iterable[FallibleProcessResult], *, needed_by: str) -> None:
    failures = []
    for unit, result in zip(units, results):
        if result.exit_code:
            failures.append(_messages(unit, result))
        elif result.stderr:
            logger.warning(_messages(unit, result))
    if failures:
        title = f"{pluralize(len(failures), 'source')} of {needed_by} can't be compiled."
        parts = (title, *failures, _missing_headers_advice("\n".join(failures)))
        raise CompileError("\n\n".join(part for part in parts if part))


async def compile_objects(
    targets: Iterable[Target], toolchain: CCToolchain, options: CompileOptions = CompileOptions(), *, needed_by: str
) -> CompiledObjects:
    """Compile all translation units among the targets, which are the transitive dependencies of something to link.

    `needed_by` names that thing in errors. All units are compiled even if some fail, and all errors are raised as one
    `CompileError`. Warnings are logged.
    """
    units = translation_units(targets)
    if not units:
        return CompiledObjects(EMPTY_DIGEST, ())
    inputs = await _find_unit_inputs(units)
    return await _compile(inputs, toolchain, options, needed_by)


async def compile_made_source(path: str, source: Digest, toolchain: CCToolchain, *, needed_by: str) -> CompiledObjects:
    """Compile a source that no target has, the file `path` of a digest."""
    return await _compile((_UnitInputs(TranslationUnit(path, ()), source, ()),), toolchain, CompileOptions(), needed_by)


async def _compile(
    inputs: tuple[_UnitInputs, ...], toolchain: CCToolchain, options: CompileOptions, needed_by: str
) -> CompiledObjects:
    units = tuple(each.unit for each in inputs)
    results = await engine.run_fallible_processes(
        compile_process(each, toolchain, options, driver=toolchain.driver(each.unit.language, needed_by=needed_by))
        for each in inputs
    )
    _report(units, results, needed_by=needed_by)
    return CompiledObjects(await engine.merge_digests(result.output_digest for result in results), units)
