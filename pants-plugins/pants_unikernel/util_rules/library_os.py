"""Which library OS an image means: one of those that come along, or a `library_os` target's."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from pants.core.target_types import FileSourceField
from pants.core.util_rules.environments import EnvironmentTarget
from pants.core.util_rules.system_binaries import BinaryPathRequest
from pants.engine.addresses import Address, UnparsedAddressInputs
from pants.engine.fs import Digest, FileContent, FileEntry
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import AllTargets, Field, HydrateSourcesRequest, SourcesField, Target
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.toolchain import host_probe, probe_host
from pants_unikernel.image_types import UnikernelImageFieldSet
from pants_unikernel.library_os_target import (
    LibraryOsDescriptionField,
    LibraryOsDigestsField,
    LibraryOsInputsField,
    LibraryOsTarget,
    LibraryOsVersionField,
)
from pants_unikernel.util_rules.failures import MissingToolsError, UnikernelBuildError, errors_of
from pants_unikernel.util_rules.rootfs import package_targets
from unikernel.library_os import described_library_os, find_library_os, library_os_names, unknown_library_os
from unikernel.library_os.command_line import check_words, render_command_line
from unikernel.library_os.description import CONFIGURABLE, InputKind, LibraryOs, Pack
from unikernel.signing.provenance import Artifact

_INPUTS = "__inputs"
_DESCRIPTION = "library-os.yaml"


@dataclass(frozen=True)
class LibraryOsTargets:
    """Those of the repository, by name."""

    by_name: FrozenDict[str, Target]

    def named(self, name: str) -> Optional[Target]:
        return self.by_name.get(name)

    def inputs_of(self, name: str) -> Collection[str]:
        """The names of what a target brings for a library OS."""
        target = self.by_name.get(name)
        return target[LibraryOsInputsField].value or () if target is not None else ()


@dataclass(frozen=True)
class ResolvedLibraryOs:
    """`text` is the description where it does not come along; `inputs` are files (each a digest with one file, by its path) by name.
    `version` is the one that the target declares, if it does.
    """

    description: LibraryOs
    text: str
    inputs: FrozenDict[str, InputFile]
    version: Optional[str] = None

    @property
    def immutable_inputs(self) -> dict[str, Digest]:
        """The files as inputs of a process."""
        return {f"{_INPUTS}/{name}": file.digest for name, file in self.inputs.items()}

    @property
    def description_files(self) -> list[FileContent]:
        """The description as an input of a process, and `description_options` as what the toolkit is told of it."""
        return [FileContent(_DESCRIPTION, self.text.encode())] if self.text else []

    @property
    def description_options(self) -> list[str]:
        return [f"--description={_DESCRIPTION}"] if self.text else []

    @property
    def artifacts(self) -> list[Artifact]:
        """The files as inputs of an image, for its provenance."""
        return [Artifact(f"{self.description.name} {name}", file.sha256) for name, file in self.inputs.items()]


def is_own_file(word: str) -> bool:
    """Whether a word of a command line names a file that a target brings: a digest is part of the process then."""
    return _INPUTS in word


@dataclass(frozen=True)
class FoundInputs:
    """`paths` are those of all inputs, by name: in a process's sandbox for those that a target brings. `fingerprint` stands for the
    programs of this machine among them.
    """

    paths: FrozenDict[str, str]
    fingerprint: str


@dataclass(frozen=True)
class InputFile:
    digest: Digest
    path: str
    sha256: str


@rule(desc="Find library OSes", level=LogLevel.DEBUG)
async def find_library_os_targets(all_targets: AllTargets) -> LibraryOsTargets:
    by_name: dict[str, Target] = {}
    for target in all_targets:
        if target.has_field(LibraryOsInputsField):
            name = target.address.target_name
            other = by_name.setdefault(name, target)
            if other is not target:
                raise UnikernelBuildError(
                    f"Two `{LibraryOsTarget.alias}` targets are called {name!r}: {other.address} and {target.address}."
                )
    return LibraryOsTargets(FrozenDict(by_name))


@dataclass(frozen=True)
class DescribedLibraryOs:
    """`text` is the description where it does not come along; `target` is there where the repository has one."""

    description: LibraryOs
    text: str = ""
    target: Optional[Target] = None

    @property
    def suffix(self) -> str:
        """What the names of images end with."""
        build = self.description.build
        return build.suffix if isinstance(build, Pack) else "elf"


async def describe_library_os(field_set: UnikernelImageFieldSet, targets: LibraryOsTargets) -> DescribedLibraryOs:
    """Raises UnikernelBuildError for an unknown name, with the nearest known one, and for a description that is not valid."""
    name, known = field_set.library_os.value, known_names(targets)
    if name not in known:
        raise UnikernelBuildError(f"{field_set.address}: library_os: {unknown_library_os(name, known)}")
    return await describe_named(name, targets)


def known_names(targets: LibraryOsTargets) -> list[str]:
    return sorted({*library_os_names(), *targets.by_name})


async def describe_named(name: str, targets: LibraryOsTargets) -> DescribedLibraryOs:
    """Of a known one. Raises UnikernelBuildError for a description that is not valid, and for names of inputs that it does not have."""
    target = targets.named(name)
    if target is None:
        return DescribedLibraryOs(find_library_os(name))
    text = await _text(target)
    with errors_of(target.address):
        description = described_library_os(name, text, target[LibraryOsDescriptionField].file_path or name)
    if description.name != name:
        raise UnikernelBuildError(
            f"{target.address}: its description is of {description.name!r}: give target and description one name."
        )
    _check_names(target, description)
    return DescribedLibraryOs(description, text, target)


def _check_names(target: Target, description: LibraryOs) -> None:
    declared = target[LibraryOsInputsField].value or {}
    for unknown in sorted(set(declared) - set(description.inputs)):
        raise UnikernelBuildError(
            f"{target.address}: the `{LibraryOsInputsField.alias}` field has {unknown!r}, and {description.name} needs "
            f"{', '.join(description.inputs) or 'nothing'}."
        )
    for unknown in sorted(set(target[LibraryOsDigestsField].value or {}) - set(declared)):
        raise UnikernelBuildError(
            f"{target.address}: the `{LibraryOsDigestsField.alias}` field has {unknown!r}, which the `{LibraryOsInputsField.alias}` field "
            "does not bring."
        )


async def resolve_library_os(field_set: UnikernelImageFieldSet, targets: LibraryOsTargets) -> ResolvedLibraryOs:
    """Raises UnikernelBuildError as `describe_library_os` does, and for a target whose inputs are not the files that it declares."""
    described = await describe_library_os(field_set, targets)
    description, target = described.description, described.target
    if target is None:
        return ResolvedLibraryOs(description, "", FrozenDict())
    inputs = {}
    for item, address in sorted((target[LibraryOsInputsField].value or {}).items()):
        inputs[item] = await _input_file(target.address, item, address, description.inputs[item].kind is InputKind.PROGRAM)
    _check_digests(target, inputs)
    return ResolvedLibraryOs(description, described.text, FrozenDict(inputs), target[LibraryOsVersionField].value)


def _check_digests(target: Target, inputs: Mapping[str, InputFile]) -> None:
    for name, sha256 in sorted((target[LibraryOsDigestsField].value or {}).items()):
        if inputs[name].sha256 != sha256:
            raise UnikernelBuildError(
                f"{target.address}: the `{LibraryOsDigestsField.alias}` field: {name} is to have {sha256}, and the file "
                f"{inputs[name].path} has {inputs[name].sha256}: it is another file."
            )


def check_fields(field_set: UnikernelImageFieldSet, library_os: LibraryOs) -> None:
    """Raises UnikernelBuildError for what the library OS has no use for, or no way to be told."""
    name, origin = library_os.name, field_set.address
    fields: dict[str, Any] = {field.alias: field for field in vars(field_set).values() if isinstance(field, Field)}
    for field in (fields[alias] for alias in CONFIGURABLE):
        # No network is what an image has that can have none.
        if field.alias not in library_os.honours and field.value and field.value not in (field.default, "none"):
            raise UnikernelBuildError(f"{origin}: the `{field.alias}` field means nothing to {name}: leave it out.")
    memory = field_set.memory.bytes
    if memory is not None and memory < library_os.minimum_memory:
        raise UnikernelBuildError(
            f"{origin}: the `memory` field is {field_set.memory.value}, and {name} needs {library_os.minimum_memory >> 20}M at least."
        )
    arguments = tuple(field_set.args.value or ())
    environment: dict[str, str] = dict(field_set.env.value or {})
    with errors_of(origin):
        check_words(library_os, arguments, environment)
        if not library_os.command_line.in_image:
            render_command_line(library_os, "", arguments, environment)


async def find_inputs(
    origin: Address, resolved: ResolvedLibraryOs, searched: tuple[str, ...], env_target: EnvironmentTarget
) -> FoundInputs:
    """Raises UnikernelBuildError that says what is missing, where it is published, and how to declare it."""
    library_os = resolved.description
    names = sorted(name for name, item in library_os.inputs.items() if name not in resolved.inputs and item.default)
    found = await engine.find_binaries(
        BinaryPathRequest(binary_name=library_os.inputs[name].default, search_path=searched) for name in names
    )
    on_path = {name: paths.first_path.path for name, paths in zip(names, found) if paths.first_path is not None}
    missing = sorted(set(library_os.inputs) - set(resolved.inputs) - set(on_path))
    if missing:
        raise MissingToolsError(f"{origin}: {_missing(library_os, missing, searched)}")
    fingerprint = ""
    if on_path:
        fingerprint = await probe_host(
            await host_probe(searched, env_target.executable_search_path_cache_scope()),
            ["files", *on_path.values()],
            search_path=searched,
            description=f"Fingerprint the tools of {library_os.name}",
        )
    declared = {name: f"{_INPUTS}/{name}/{file.path}" for name, file in resolved.inputs.items()}
    return FoundInputs(FrozenDict({**on_path, **declared}), fingerprint)


def _missing(library_os: LibraryOs, missing: Iterable[str], searched: Iterable[str]) -> str:
    wanted = []
    for name in missing:
        item = library_os.inputs[name]
        if item.default:
            wanted.append(f"{item.default} ({item.what}), not found on {':'.join(searched)}")
        else:
            wanted.append(f"{name}, {item.what}")
    declaration = ", ".join(f'"{name}": ":..."' for name in missing)
    return (
        f"{library_os.name} needs {'; '.join(wanted)}. Published as: {library_os.published}. Declare what you have in a target: "
        f'{LibraryOsTarget.alias}(name="{library_os.name}", inputs={{{declaration}}}).'
    )


async def _text(target: Target) -> str:
    field = target[LibraryOsDescriptionField]
    if field.value is None:
        return ""
    hydrated = await engine.hydrate_sources(HydrateSourcesRequest(field))
    (path,) = hydrated.snapshot.files
    return (await engine.file_content(hydrated.snapshot.digest, path)).decode(errors="replace")


async def _input_file(owner: Address, name: str, address: str, is_program: bool) -> InputFile:
    origin = f"{owner}: the `inputs` field: {name}"
    targets = await engine.find_targets(
        UnparsedAddressInputs([address], owning_address=owner, description_of_origin=f"the `inputs` field of {owner}")
    )
    if len(targets) != 1:
        raise UnikernelBuildError(f"{origin}: {address} stands for {len(targets)} targets; name one with one file.")
    target = targets[0]
    if target.has_field(FileSourceField):
        request = HydrateSourcesRequest(target.get(SourcesField), for_sources_types=(FileSourceField,), enable_codegen=True)
        digest = (await engine.hydrate_sources(request)).snapshot.digest
    else:
        (package,) = await package_targets(targets, owner, LibraryOsInputsField.alias)
        digest = package.digest
    files = [entry for entry in await engine.digest_entries(digest) if isinstance(entry, FileEntry)]
    if len(files) != 1:
        raise UnikernelBuildError(f"{origin}: {target.address} has {len(files)} files; name a target with one.")
    if is_program and not files[0].is_executable:
        # What is downloaded has no mode.
        digest = await engine.create_digest([dataclasses.replace(files[0], is_executable=True)])
    return InputFile(digest, files[0].path, files[0].file_digest.fingerprint)


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
