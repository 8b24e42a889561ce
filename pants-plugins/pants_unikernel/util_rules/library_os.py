"""Which library OS an image means: one of those that come along, or a `library_os` target's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pants.core.target_types import FileSourceField
from pants.engine.addresses import Address, UnparsedAddressInputs
from pants.engine.fs import Digest, FileEntry
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import AllTargets, HydrateSourcesRequest, SourcesField, Target
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.image_types import UnikernelImageFieldSet
from pants_unikernel.library_os_target import LibraryOsDescriptionField, LibraryOsInputsField, LibraryOsTarget
from pants_unikernel.util_rules.failures import UnikernelBuildError
from pants_unikernel.util_rules.rootfs import package_targets
from unikernel.errors import UnikernelError
from unikernel.library_os import described_library_os, find_library_os, library_os_names, unknown_library_os
from unikernel.library_os.description import LibraryOs


@dataclass(frozen=True)
class LibraryOsTargets:
    """Those of the repository, by name."""

    by_name: FrozenDict[str, Target]

    def named(self, name: str) -> Target | None:
        return self.by_name.get(name)


@dataclass(frozen=True)
class ResolvedLibraryOs:
    """`text` is the description where it does not come along; `inputs` are files (each a digest with one file, by its path) by name."""

    description: LibraryOs
    text: str
    inputs: FrozenDict[str, InputFile]


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


async def resolve_library_os(field_set: UnikernelImageFieldSet, targets: LibraryOsTargets) -> ResolvedLibraryOs:
    """Raises UnikernelBuildError for an unknown name, with the nearest known one, and for a target that does not fit its description."""
    name = field_set.library_os.value
    target = targets.named(name)
    if target is None and name not in library_os_names():
        known = sorted({*library_os_names(), *targets.by_name})
        raise UnikernelBuildError(f"{field_set.address}: library_os: {unknown_library_os(name, known)}")
    if target is None:
        return ResolvedLibraryOs(find_library_os(name), "", FrozenDict())
    text = await _text(target)
    try:
        description = described_library_os(name, text, target[LibraryOsDescriptionField].file_path or name)
    except UnikernelError as error:
        raise UnikernelBuildError(f"{target.address}: {error}") from error
    if description.name != name:
        raise UnikernelBuildError(
            f"{target.address}: its description is of {description.name!r}: give target and description one name."
        )
    addresses = target[LibraryOsInputsField].value or {}
    for unknown in sorted(set(addresses) - set(description.inputs)):
        raise UnikernelBuildError(
            f"{target.address}: the `inputs` field has {unknown!r}, and {name} needs {', '.join(description.inputs) or 'nothing'}."
        )
    inputs = {}
    for item, address in sorted(addresses.items()):
        inputs[item] = await _input_file(target.address, item, address)
    return ResolvedLibraryOs(description, text, FrozenDict(inputs))


async def _text(target: Target) -> str:
    field = target[LibraryOsDescriptionField]
    if field.value is None:
        return ""
    hydrated = await engine.hydrate_sources(HydrateSourcesRequest(field))
    (path,) = hydrated.snapshot.files
    return (await engine.file_content(hydrated.snapshot.digest, path)).decode(errors="replace")


async def _input_file(owner: Address, name: str, address: str) -> InputFile:
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
    return InputFile(digest, files[0].path, files[0].file_digest.fingerprint)


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
