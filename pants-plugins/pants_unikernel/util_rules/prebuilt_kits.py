"""Prebuilt kits, which stand in for compilers and a kernel source: see docs/kit.md.

Only files are looked for here. A process of the toolkit verifies and unpacks a kit, and its cache
key has the archive, its bundle and the public keys: a change of any of them is verified anew.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from pants.base.build_root import BuildRoot
from pants.core.target_types import FileSourceField
from pants.engine.addresses import UnparsedAddressInputs
from pants.engine.env_vars import CompleteEnvironmentVars
from pants.engine.fs import Digest, FileContent, FileEntry
from pants.engine.internals.session import SessionValues
from pants.engine.rules import Rule, collect_rules
from pants.engine.target import HydrateSourcesRequest, SourcesField
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict

from pants_unikernel import engine
from pants_unikernel.subsystems.linux import IMPORTED_KITS, UnikernelLinux
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.failures import UnikernelBuildError, errors_of, run_step
from pants_unikernel.util_rules.signing import user_path
from unikernel.errors import UnikernelError
from unikernel.linux.kit_archive import LARGEST_ARCHIVE, SUFFIX, archive_name, is_cache_key
from unikernel.linux.kit_store import bundle_beside, kits_directory, kits_in
from unikernel.signing.files import bundle_path
from unikernel.signing.keys import PublicKey

logger = logging.getLogger(__name__)

KIT = "kit"
INIT = "init"
_OPTION = "[unikernel-linux].kits"
_KEYS_OPTION = "[unikernel-linux].kit_keys"
_KEYS = "__keys"
_GLOB = "*?["


@dataclass(frozen=True)
class KitFile:
    """An archive of this machine. `state` is what the file system says of it and of its bundle:
    where that changes, both are read again. `is_imported` is whether no option names it.
    """

    path: str
    state: tuple[Optional[tuple[int, ...]], ...]
    is_imported: bool


@dataclass(frozen=True)
class PrebuiltKits:
    """The kits of this machine by cache key, addresses of further ones, and what may sign them
    (PEM).
    """

    files: FrozenDict[str, KitFile]
    addresses: tuple[str, ...]
    public_keys: tuple[str, ...]
    allow_development_keys: bool


@dataclass(frozen=True)
class _Kit:
    """An archive and its bundle, in one digest. `origin` is where they come from, for messages."""

    origin: str
    digest: Digest
    archive: str


# Not cached: what is in directories of this machine is no input that the engine knows of.
@engine.uncacheable_rule(desc="Find prebuilt kits")
async def find_prebuilt_kits(linux: UnikernelLinux, build_root: BuildRoot, session_values: SessionValues) -> PrebuiltKits:
    root, environment = build_root.pathlib_path, session_values[CompleteEnvironmentVars]
    files: dict[str, KitFile] = {}
    for path, is_imported in _archives(linux.kits, root, environment):
        files.setdefault(path.name[: -len(SUFFIX)], KitFile(str(path), (_state(path), _state(bundle_beside(path))), is_imported))
    with errors_of(_KEYS_OPTION):
        public_keys = tuple(PublicKey.load(user_path(path, root, environment)).pem for path in linux.kit_keys)
    addresses = tuple(entry for entry in linux.kits if entry.startswith("//"))
    return PrebuiltKits(FrozenDict(files), addresses, public_keys, linux.allow_development_keys)


def _archives(entries: Iterable[str], root: Path, environment: Mapping[str, str]) -> Iterator[tuple[Path, bool]]:
    """The files of this machine that are named as kits are, in the order of the entries, and
    whether they are there by `unikernel kit import` alone.
    """
    for entry in entries:
        if entry.startswith("//"):
            continue
        if entry == IMPORTED_KITS:
            # Without a home directory, nothing was imported.
            with contextlib.suppress(UnikernelError):
                yield from ((path, True) for path in kits_in(kits_directory(environment)) if _is_named_as_kit(path))
            continue
        path = user_path(entry, root, environment)
        if any(character in entry for character in _GLOB):
            found = map(Path, sorted(glob.glob(str(path), recursive=True)))
            yield from ((path, False) for path in found if path.is_file() and _is_named_as_kit(path))
        elif path.is_dir():
            yield from ((path, False) for path in kits_in(path) if _is_named_as_kit(path))
        elif not path.exists():
            raise UnikernelBuildError(f"{_OPTION} has {entry!r}, but {path} is not there. Correct the path, or leave it out.")
        elif _is_named_as_kit(path):
            yield path, False
        else:
            raise UnikernelBuildError(
                f"{_OPTION} has {entry!r}, but {path.name} is not the name of a kit, which is CACHE-KEY{SUFFIX}. Rename it to what "
                "`unikernel kit inspect` prints as its cache key."
            )


def _is_named_as_kit(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and is_cache_key(path.name[: -len(SUFFIX)])


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


async def unpacked_kit(key: str, kits: PrebuiltKits) -> Digest | None:
    """The directory `kit` and the file `init` out of the kit with a cache key, once it is verified.
    None without one.

    Raises UnikernelBuildError, with the file in it, for a kit that is there and does not hold.
    """
    file = kits.files.get(key)
    kit = await _kit_of_targets(key, kits.addresses)
    if kit is not None:
        origin, is_imported = kit.origin, False
    elif file is not None:
        origin, is_imported = file.path, file.is_imported
    else:
        return None
    if kits.public_keys:
        return await _unpack(key, kit or await _kit_of_file(Path(origin)), kits)
    if is_imported:
        logger.warning(f"The prebuilt kit {origin} is not used: {_KEYS_OPTION} names no key that may sign kits.")
        return None
    raise UnikernelBuildError(
        f"{_OPTION} has the kit {origin}, but {_KEYS_OPTION} names no key that may sign kits. Set it to the paths of public keys."
    )


async def _kit_of_targets(key: str, addresses: Iterable[str]) -> _Kit | None:
    addresses = tuple(addresses)
    if not addresses:
        return None
    targets = await engine.find_targets(
        UnparsedAddressInputs(addresses, owning_address=None, description_of_origin=f"the option {_OPTION}")
    )
    hydrated = await engine.hydrate_all_sources(
        HydrateSourcesRequest(target.get(SourcesField), for_sources_types=(FileSourceField,), enable_codegen=True)
        for target in targets
    )
    name = archive_name(key)
    found: dict[str, FileEntry] = {}
    for sources in hydrated:
        for entry in await engine.digest_entries(sources.snapshot.digest):
            if isinstance(entry, FileEntry):
                found.setdefault(os.path.basename(entry.path), FileEntry(os.path.basename(entry.path), entry.file_digest))
    if name not in found:
        return None
    if bundle_path(name) not in found:
        raise UnikernelBuildError(
            f"{_OPTION} has a target with {name}, but none with its bundle. Add a `file` target with {bundle_path(name)}."
        )
    return _Kit(f"{name} of {', '.join(addresses)}", await engine.create_digest([found[name], found[bundle_path(name)]]), name)


async def _kit_of_file(path: Path) -> _Kit:
    contents = []
    for file in (path, bundle_beside(path)):
        try:
            with file.open("rb") as stream:
                content = stream.read(LARGEST_ARCHIVE + 1)
        except OSError as error:
            raise UnikernelBuildError(
                f"The kit {path} cannot be used: {file} cannot be read ({error.strerror}). Import the kit again, or remove it."
            ) from error
        contents.append(FileContent(file.name, content))
    return _Kit(str(path), await engine.create_digest(contents), path.name)


async def _unpack(key: str, kit: _Kit, kits: PrebuiltKits) -> Digest:
    keys = [FileContent(f"{number}.pub", pem.encode()) for number, pem in enumerate(kits.public_keys)]
    toolkit = await engine.find_toolkit()
    process = await toolkit_process(
        toolkit,
        [
            *("unpack-kit", kit.archive, f"--expect={key}"),
            *(f"--key={_KEYS}/{file.path}" for file in keys),
            *(["--allow-development-keys"] if kits.allow_development_keys else []),
            *(f"--kit={KIT}", f"--init={INIT}"),
        ],
        description="Verify and unpack a prebuilt Linux kit",
        input_digests=[kit.digest],
        immutable_input_digests={_KEYS: await engine.create_digest(keys)},
        output_directories=[KIT],
        output_files=[INIT],
    )
    result = await run_step(process, f"The kit {kit.origin}")
    logger.info(f"Linux comes from the prebuilt kit {kit.origin}")
    return result.output_digest


def how_to_import(key: str, kits: PrebuiltKits) -> str:
    """The way out for a machine that cannot compile: a sentence."""
    if key in kits.files:
        return f"Or use the kit {kits.files[key].path}: set {_KEYS_OPTION} to the public key that signs it."
    return f"Or import a prebuilt kit with the cache key {key}: unikernel kit import {archive_name(key)} --key PUB (docs/kit.md)."


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
