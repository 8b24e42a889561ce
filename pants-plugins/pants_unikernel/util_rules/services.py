"""Rules that find services by targets and sources. Nothing is built, and no process runs."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from packaging.utils import canonicalize_name
from pants.backend.cc.target_types import CCSourceField
from pants.backend.python.target_types import PythonRequirementsField, PythonSourceField, PythonTestSourceField
from pants.core.goals.package import OutputPathField
from pants.engine.addresses import Address, UnparsedAddressInputs
from pants.engine.fs import FileEntry
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import AllTargets, HydrateSourcesRequest, SourcesField, Target
from pants.engine.unions import UnionRule
from pants.source.source_root import SourceRootsRequest
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.service_types import (
    Candidate,
    CandidateRequest,
    PythonModule,
    PythonModules,
    ReadDockerfile,
    ReadDockerfileRequest,
    SourceSigns,
    SourceSignsRequest,
)
from pants_unikernel.services.c_signs import c_signs
from pants_unikernel.services.dockerfile import parse_dockerfile
from pants_unikernel.services.go_signs import go_imports, go_signs, module_path
from pants_unikernel.services.python_signs import SERVER_DISTRIBUTIONS, absolute_import, read_python, starts_server
from pants_unikernel.services.signs import MAX_SOURCE_BYTES, PlacedSign, Sign, Verdict, verdict
from unikernel.rootfs.needs import module_name

logger = logging.getLogger(__name__)

# By name: the backends that some of them belong to need not be there. The value is what the file of
# a program is called, by default.
PROGRAMS: Mapping[str, str | None] = {"cc_binary": None, "go_binary": None, "pex_binary": "pex"}
DOCKER_IMAGE = "docker_image"
_ARCHIVE = "archive"
_C_SUFFIXES = (".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx")
_Found = tuple[tuple[Sign, ...], Iterable[str]]


def _read_python(source: bytes) -> _Found:
    read = read_python(source)
    return read.signs, read.imports


# By suffix: the signs in a source, and what it imports, where that is followed.
_READERS: Mapping[str, Callable[[bytes], _Found]] = {
    **dict.fromkeys(_C_SUFFIXES, lambda source: (c_signs(source), ())),
    ".go": lambda source: (go_signs(source), go_imports(source)),
    ".py": _read_python,
}
# More packages than any one program of a repository has of that repository's own.
_MAX_GO_PACKAGES = 1000


@rule(desc="Look for signs of a service", level=LogLevel.DEBUG)
async def find_source_signs(request: SourceSignsRequest) -> SourceSigns:
    target = await engine.find_target(request.address)
    hydrated = await engine.hydrate_sources(HydrateSourcesRequest(target.get(SourcesField)))
    digest = hydrated.snapshot.digest
    paths = [
        entry.path
        for entry in await engine.digest_entries(digest)
        if isinstance(entry, FileEntry)
        and PurePath(entry.path).suffix in _READERS
        and not entry.path.endswith("_test.go")
        and entry.file_digest.serialized_bytes_length <= MAX_SOURCE_BYTES
    ]
    contents = await engine.file_contents(digest, paths) if paths else {}
    found = {path: _READERS[PurePath(path).suffix](content) for path, content in sorted(contents.items())}
    signs = {path: signs for path, (signs, _) in found.items()}
    return SourceSigns(FrozenDict(signs), tuple(sorted({name for _, imports in found.values() for name in imports})))


def field_value(target: Target, alias: str) -> Any:
    """Return the value of the field that BUILD files call `alias`, or None."""
    return next((field.value for field in target.field_values.values() if field.alias == alias), None)


async def _signs_of(targets: Iterable[Target]) -> dict[str, tuple[Sign, ...]]:
    found = await engine.source_signs(SourceSignsRequest(target.address) for target in targets)
    return {path: signs for each in found for path, signs in each.by_path.items()}


def plain_name(address: Address | str) -> str:
    """Return an address without its parameters.

    One image stands for all of a parametrized application.
    """
    return str(address).split("@", 1)[0]


def _included(target: Target, alias: str) -> list[str]:
    """Return what a field of addresses names, those that it leaves out excepted."""
    return [each for each in field_value(target, alias) or () if not each.startswith("!")]


async def _addresses(values: Iterable[str], owner: Target) -> set[str]:
    """Return the words that are addresses of targets. Others are names of images."""
    found: set[str] = set()
    for value in values:
        if ":" not in value and not value.startswith("//") and "/" not in value:
            continue
        inputs = UnparsedAddressInputs(
            [value], owning_address=owner.address, description_of_origin=f"the target {owner.address}", skip_invalid_addresses=True
        )
        found |= {plain_name(address) for address in await engine.parse_addresses(inputs)}
    return found


# --- Python -------------------------------------------------------------------------------------------------------


async def _python_verdict(target: Target, modules: PythonModules, all_targets: Iterable[Target]) -> Verdict:
    """Follow imports from the entry point.

    What else the PEX has, by explicit dependencies, does not run by itself.

    Pants' own dependency inference would warn of imports that no target owns.
    """
    script, entry_point = field_value(target, "script"), field_value(target, "entry_point")
    arguments = field_value(target, "args") or ()
    if script is not None:
        return _third_party_verdict(script.name, arguments)
    if entry_point is None:
        return Verdict(False, "it has neither an entry point nor a script")
    entry = _entry_module(entry_point.module, target.address, modules)
    if entry is None:
        return _third_party_verdict(entry_point.module, arguments)
    imported: set[str] = set()
    waiting, placed = list(_modules_of(entry.name, modules)), []
    seen = {module.name for module in waiting}
    while waiting:
        found = await engine.source_signs(SourceSignsRequest(module.owner) for module in waiting)
        following: dict[str, PythonModule] = {}
        for module, each in zip(waiting, found):
            is_entry = module == entry
            for sign in each.by_path.get(module.path, ()):
                if not sign.only_as_main or (is_entry and not entry_point.function):
                    placed.append(PlacedSign(sign, module.path, is_entry))
            for name in each.imports:
                absolute = absolute_import(name, module.name, is_package=module.is_package)
                imported.add(absolute.partition(".")[0])
                following.update({other.name: other for other in _modules_of(absolute, modules)})
        waiting = [module for name, module in sorted(following.items()) if name not in seen]
        seen |= following.keys()
    has_server = bool(imported & SERVER_DISTRIBUTIONS) or await _requires_server(target, all_targets)
    return verdict(tuple(placed), has_server=has_server)


def _entry_module(module: str, owner: Address, modules: PythonModules) -> PythonModule | None:
    """Return the repository's own module that an entry point names.

    It names a file beside the BUILD file, or a module.
    """
    if module.endswith(".py"):
        path = os.path.join(owner.spec_path, module)
        return next((each for each in modules.by_name.values() if each.path == path), None)
    return modules.by_name.get(f"{module}.__main__") or modules.by_name.get(module)


def _modules_of(name: str, modules: PythonModules) -> Iterator[PythonModule]:
    """Yield the modules that an import of `name` runs.

    They are the module (`name` may be a name in it), and the packages that it is in.
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module = modules.by_name.get(".".join(parts[:end]))
        if module is not None:
            yield module


async def _requires_server(target: Target, all_targets: Iterable[Target]) -> bool:
    """Return whether a PEX requires a program that serves, which no import shows."""
    named = await _addresses(_included(target, "dependencies"), target)
    owners = [each for each in all_targets if plain_name(each.address) in named and each.has_field(PythonRequirementsField)]
    names = {canonicalize_name(requirement.project_name) for each in owners for requirement in each[PythonRequirementsField].value}
    return bool(names & SERVER_DISTRIBUTIONS)


def _third_party_verdict(program: str, arguments: Iterable[str]) -> Verdict:
    if starts_server(program, tuple(arguments)):
        return Verdict(True, f"it starts {program}")
    return Verdict(False, f"it starts {program}, which is not known to be a server")


@rule(desc="Find Python modules", level=LogLevel.DEBUG)
async def find_python_modules(all_targets: AllTargets) -> PythonModules:
    """Find the repository's own modules, tests excepted.

    Of several owners of a source, such as one for each resolve, the first will do.
    """
    owners: dict[str, Address] = {}
    for target in all_targets:
        if target.has_field(PythonSourceField) and not target.has_field(PythonTestSourceField):
            owners.setdefault(target[PythonSourceField].file_path, target.address)
    if not owners:
        return PythonModules(FrozenDict())
    try:
        roots = (await engine.source_roots(SourceRootsRequest.for_files(owners))).path_to_root
    except Exception as error:
        logger.debug(f"Source roots are not known: {error}")
        return PythonModules(FrozenDict())
    modules: dict[str, PythonModule] = {}
    for path, owner in sorted(owners.items()):
        root = roots[PurePath(path)].path
        name = module_name(os.path.relpath(path, root))
        modules.setdefault(name, PythonModule(name, path, owner))
    return PythonModules(FrozenDict(modules))


# --- C, C++ and Go ------------------------------------------------------------------------------------------------


async def _c_verdict(target: Target) -> Verdict:
    closure = (await engine.transitive_targets([target.address])).closure
    by_path = await _signs_of(each for each in closure if each.has_field(CCSourceField))
    return verdict(tuple(PlacedSign(sign, path) for path, signs in by_path.items() for sign in signs))


async def _go_verdict(target: Target, all_targets: Iterable[Target]) -> Verdict:
    """Follow imports from the main package through the packages of its module."""
    packages = {each.address.spec_path: each for each in all_targets if each.alias == "go_package"}
    main = field_value(target, "main")
    directory = target.address.spec_path
    if main is not None:
        addresses = await engine.parse_addresses(
            UnparsedAddressInputs(
                [main], owning_address=target.address, description_of_origin=f"the `main` field of {target.address}"
            )
        )
        directory = addresses[0].spec_path
    module, root = await _go_module(directory, all_targets)
    waiting, seen = deque([directory]), {directory}
    while waiting and len(seen) <= _MAX_GO_PACKAGES:
        package = packages.get(waiting.popleft())
        if package is None:
            continue
        found = await engine.source_signs([SourceSignsRequest(package.address)])
        placed = tuple(PlacedSign(sign, path) for path, signs in found[0].by_path.items() for sign in signs)
        if placed:
            return verdict(placed)
        for name in found[0].imports:
            if module and f"{name}/".startswith(f"{module}/"):
                imported = _joined(root, name[len(module) :].lstrip("/"))
                if imported not in seen:
                    seen.add(imported)
                    waiting.append(imported)
    return verdict(())


def _joined(directory: str, name: str) -> str:
    """Return the path of a directory in another one; "" is the root of the repository."""
    return "/".join(part for part in (directory, name) if part)


async def _go_module(directory: str, all_targets: Iterable[Target]) -> tuple[str, str]:
    """Return the path of a directory's Go module, and the directory of its `go.mod`."""
    modules = [
        each
        for each in all_targets
        if each.alias == "go_mod" and (not each.address.spec_path or f"{directory}/".startswith(f"{each.address.spec_path}/"))
    ]
    if not modules:
        return "", ""
    nearest = max(modules, key=lambda each: len(each.address.spec_path))
    hydrated = await engine.hydrate_sources(HydrateSourcesRequest(nearest.get(SourcesField)))
    path = os.path.join(nearest.address.spec_path, "go.mod")
    content = (await engine.file_contents(hydrated.snapshot.digest, [path])).get(path, b"")
    return module_path(content), nearest.address.spec_path


@rule(desc="Decide whether a program is a service", level=LogLevel.DEBUG)
async def find_candidate(request: CandidateRequest, all_targets: AllTargets, modules: PythonModules) -> Candidate:
    """Decide by the program's sources.

    A program whose sources cannot be looked at is not a service.
    """
    target = await engine.find_target(request.address)
    try:
        if target.alias == "pex_binary":
            found = await _python_verdict(target, modules, all_targets)
        elif target.alias == "cc_binary":
            found = await _c_verdict(target)
        else:
            found = await _go_verdict(target, all_targets)
    except Exception as error:
        problem = " ".join(str(error).split())
        return Candidate(request.address, False, f"its sources cannot be looked at: {problem}")
    return Candidate(request.address, found.is_service, found.reason)


# --- Docker images and archives -----------------------------------------------------------------------------------


@rule(desc="Read a Dockerfile", level=LogLevel.DEBUG)
async def read_dockerfile(request: ReadDockerfileRequest) -> ReadDockerfile:
    """Read it without Docker, and without the parser that Pants builds for it."""
    target = await engine.find_target(request.address)
    instructions = field_value(target, "instructions")
    try:
        if instructions:
            text = "\n".join(instructions)
        else:
            hydrated = await engine.hydrate_sources(HydrateSourcesRequest(target.get(SourcesField)))
            contents = await engine.file_contents(hydrated.snapshot.digest, hydrated.snapshot.files)
            text = "\n".join(content.decode("utf-8", "replace") for content in contents.values())
    except Exception as error:
        return ReadDockerfile(None, " ".join(str(error).split()))
    arguments = dict(each.split("=", 1) for each in field_value(target, "extra_build_args") or () if "=" in each)
    return ReadDockerfile(parse_dockerfile(text, arguments, field_value(target, "target_stage") or ""))


@dataclass(frozen=True)
class Composition:
    """The parts of Docker images and archives, by addresses without parameters.

    `bases` are Docker images that others start from. `bases_of` has those that an image starts from
    itself.
    """

    parts: Mapping[str, frozenset[str]]
    bases: frozenset[str]
    bases_of: Mapping[str, frozenset[str]]
    dockerfiles: Mapping[str, ReadDockerfile]

    def all_parts(self, name: str) -> set[str]:
        """Return the parts of something, and theirs."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = self.parts.get(waiting.pop(), frozenset()) - found
            found |= new
            waiting += new
        return found


async def find_composition(all_targets: Iterable[Target]) -> Composition:
    """Find the parts of all Docker images and archives.

    They are what targets name, and packages whose paths Dockerfiles copy.
    """
    targets = tuple(all_targets)
    images = [target for target in targets if target.alias == DOCKER_IMAGE]
    by_output = {path: plain_name(target.address) for target in targets if target.alias in PROGRAMS for path in _outputs(target)}
    repositories = {field_value(image, "repository"): plain_name(image.address) for image in images}
    names = {plain_name(image.address) for image in images}
    read = await engine.read_dockerfiles(ReadDockerfileRequest(image.address) for image in images)
    dockerfiles = {plain_name(image.address): each for image, each in zip(images, read)}
    parts: dict[str, frozenset[str]] = {}
    bases_of: dict[str, frozenset[str]] = {}
    for image, each in zip(images, read):
        own = await _addresses(_included(image, "dependencies"), image)
        dockerfile = each.dockerfile
        bases = {*(await _addresses(dockerfile.bases, image) if dockerfile else ()), *own} & names
        if dockerfile:
            own |= {by_output[path.lstrip("./")] for path in dockerfile.copied if path.lstrip("./") in by_output}
            bases |= {repositories[name] for name in map(_repository, dockerfile.bases) if name in repositories}
        name = plain_name(image.address)
        parts[name] = frozenset(own - {name})
        bases_of[name] = frozenset(bases - {name})
    for archive in (target for target in targets if target.alias == _ARCHIVE):
        parts[plain_name(archive.address)] = frozenset(await _addresses(_included(archive, "packages"), archive))
    return Composition(parts, frozenset().union(*bases_of.values()), bases_of, dockerfiles)


def _outputs(target: Target) -> list[str]:
    field = target.get(OutputPathField)
    return [field.value_or_default(file_ending=PROGRAMS[target.alias])]


def _repository(image: str) -> str:
    """Return an image's name without registry, tag and digest: "registry/team/name:tag@digest"."""
    name = image.partition("@")[0]
    first, _, rest = name.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        name = rest
    return name.partition(":")[0]


def docker_verdict(image: Target, composition: Composition, services: Iterable[str], with_images: Iterable[str]) -> Verdict:
    """Decide by the Dockerfile.

    `services` and `with_images` name programs: an image made of one of them is not proposed beside
    it.
    """
    name = plain_name(image.address)
    read = composition.dockerfiles[name]
    if read.dockerfile is None:
        return Verdict(False, f"its Dockerfile cannot be read: {read.problem}")
    if name in composition.bases:
        return Verdict(False, "other Docker images of this repository start from it")
    parts = composition.all_parts(name)
    for others, what in ((with_images, "has an image"), (services, "is proposed")):
        same = sorted(parts & set(others))
        if same:
            return Verdict(False, f"it is made of {same[0]}, which {what}")
    waiting, seen = [name], {name}
    while waiting:
        current = waiting.pop(0)
        dockerfile = composition.dockerfiles[current].dockerfile
        if dockerfile is not None and dockerfile.ports:
            return Verdict(True, f"its Dockerfile exposes {', '.join(dockerfile.ports)}")
        if dockerfile is not None and dockerfile.starts:
            return Verdict(True, f"its Dockerfile starts {dockerfile.starts}")
        below = composition.bases_of.get(current, frozenset()) - seen
        seen |= below
        waiting += sorted(below)
    return Verdict(False, "its Dockerfile exposes no port and starts no known server")


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
