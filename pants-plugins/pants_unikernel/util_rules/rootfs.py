"""The layers of an image's root file system, each by a cached process that only what decides it can re-run."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable, Optional

from pants.backend.docker.package_types import BuiltDockerImage
from pants.backend.python.subsystems.setup import PythonSetup
from pants.backend.python.util_rules.interpreter_constraints import InterpreterConstraints
from pants.core.goals.package import BuiltPackage
from pants.core.target_types import FileSourceField, ResourceSourceField
from pants.engine.addresses import Address, UnparsedAddressInputs
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import Digest, FileContent, FileEntry
from pants.engine.process import ProcessCacheScope
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import HydrateSourcesRequest, SourcesField, SpecialCasedDependencies, Target
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.image_types import RootfsLayer, TestsInImage, Toolkit, UnikernelImageFieldSet
from pants_unikernel.linux_types import LinkToolchain
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.target_types import UnikernelImageAppField, UnikernelImageFilesField
from pants_unikernel.util_rules.failures import UnikernelBuildError, run_step
from pants_unikernel.util_rules.lookup import find_one_target, find_program
from unikernel.rootfs.files import PlacedFile, to_json
from unikernel.rootfs.layer import LayerIndex

_ARTIFACTS = "artifacts"
# Large, the same for many images, and seldom changed: Pants lays them out once, and not for each image anew.
_SHARED_LAYERS = ("python", "distributions", "libraries")
_RUNTIME = "__python"
# Where an engine is, and how it is spoken to.
_DOCKER_ENVIRONMENT = ("DOCKER_CERT_PATH", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "HOME", "PATH")
MACHINE = "x86_64"


@dataclass(frozen=True)
class PythonRuntime:
    """A captured interpreter: a directory tree."""

    digest: Digest


@dataclass(frozen=True)
class PackagedApp:
    """`paths` are those of the artifacts in the digest. `constraints` are None when there is no Python in it. `docker_image` is the id of
    an image that a Docker engine has; what is in the digest only tells of it.
    """

    target: Target
    digest: Digest
    paths: tuple[str, ...]
    constraints: Optional[InterpreterConstraints]
    docker_image: str = ""


@dataclass(frozen=True)
class PlacedLayers:
    """The layers as inputs of a process: `paths` of their archives, in order."""

    paths: tuple[str, ...]
    digests: tuple[Digest, ...]
    immutable_inputs: dict[str, Digest]


async def rootfs_layers(
    field_set: UnikernelImageFieldSet,
    app: PackagedApp,
    toolkit: Toolkit,
    toolchain: LinkToolchain,
    *,
    machine: str = MACHINE,
    check: Callable[[dict[str, Any]], None] | None = None,
    only_program: bool = False,
    tests: TestsInImage | None = None,
) -> list[RootfsLayer]:
    """The layers in the order in which they are laid over each other: a later one replaces files of an earlier one. That of tests is below
    all others: what is tested is what the image has.

    `check` gets the facts of the application's layer, and raises what is wrong with them, before the others are laid out. Of an image
    that has no file system in it, there is the application's layer only.
    """
    origin = str(field_set.address)
    application = await lay_out_application(app, field_set.executable.value, origin, toolkit, toolchain, machine=machine)
    if check is not None:
        check((await engine.read_layer_indexes([application.layer]))[0].facts)
    if only_program:
        return [application.layer]
    layers = await application_layers(application, origin, toolkit)
    if application.runtime is not None:
        layers.append(await python_layer(application.runtime, origin, toolkit, toolchain))
    files = await files_layer(field_set.files, toolkit, machine=machine)
    tests_layers = [RootfsLayer("tests", tests.digest)] if tests is not None else []
    # Last: who needs a library first is named with it.
    libraries = await libraries_layer([*layers, *([files] if files else []), *tests_layers], origin, toolkit, machine=machine)
    return [*tests_layers, *layers, *([libraries] if libraries else []), *([files] if files else [])]


def place_layers(layers: Iterable[RootfsLayer]) -> PlacedLayers:
    layers = tuple(layers)
    directories = {layer.name: f"__{layer.name}" for layer in layers if layer.name in _SHARED_LAYERS}
    return PlacedLayers(
        tuple(os.path.join(directories.get(layer.name, ""), layer.archive) for layer in layers),
        tuple(layer.digest for layer in layers if layer.name not in directories),
        {directories[layer.name]: layer.digest for layer in layers if layer.name in directories},
    )


# --- the application, packaged ------------------------------------------------------------------------------------


async def package_app(field: UnikernelImageAppField, python_setup: PythonSetup) -> PackagedApp:
    """Packages the `app` by the rules that know how. Raises UnikernelBuildError for what cannot be packaged."""
    return await package_app_target(await find_one_target(field), field.address, field.alias, python_setup)


async def package_app_target(target: Target, owner: Address, field: str, python_setup: PythonSetup) -> PackagedApp:
    """`owner` and its `field` name the target, in errors."""
    (package,) = await package_targets([target], owner, field)
    paths = tuple(artifact.relpath for artifact in package.artifacts if artifact.relpath)
    for artifact in package.artifacts:
        if isinstance(artifact, BuiltDockerImage):
            return PackagedApp(target, package.digest, paths, None, artifact.image_id)
    if not paths:
        raise UnikernelBuildError(
            f"{owner}: the `{field}` field names {target.address}, a `{target.alias}`, which is packaged without writing a file; "
            "name a target that writes a program, a PEX or an archive."
        )
    # By default, the closure that the application's own rules have asked for.
    is_of_packages = any(isinstance(field, SpecialCasedDependencies) for field in target.field_values.values())
    closure = await engine.transitive_targets([target.address], include_special_cased_deps=is_of_packages)
    constraints = InterpreterConstraints.create_from_targets(closure.closure, python_setup)
    return PackagedApp(target, package.digest, paths, constraints)


async def package_targets(targets: Iterable[Target], address: Address, field: str) -> tuple[BuiltPackage, ...]:
    """Packages each target. Raises UnikernelBuildError naming one that `pants package` does not package."""
    targets = tuple(targets)
    field_sets = await engine.packageable_field_sets(targets)
    chosen = []
    for target, candidates in zip(targets, field_sets.collection):
        if not candidates:
            raise UnikernelBuildError(
                f"{address}: the `{field}` field names {target.address}, a `{target.alias}` target, which `package` cannot package. "
                "Name one that it can, such as a `pex_binary`, a `cc_binary` or an `archive`."
            )
        chosen.append(candidates[0])
    return await engine.package_all(chosen)


# --- the interpreter ----------------------------------------------------------------------------------------------


async def capture_python_runtime(constraints: InterpreterConstraints, origin: str, toolkit: Toolkit) -> PythonRuntime:
    """The interpreter that a PEX with these constraints is resolved for, with its libraries, as a directory tree."""
    interpreter = await engine.find_interpreter(constraints)
    describe = await toolkit_process(
        toolkit,
        ["describe-python", f"--interpreter={interpreter.path}", "--output=python.json"],
        description=f"Look at the Python interpreter {interpreter.path}",
        output_files=["python.json"],
        # The machine's interpreter and libraries can change under the same path. The description has their digests.
        cache_scope=ProcessCacheScope.PER_RESTART_SUCCESSFUL,
    )
    description = (await run_step(describe, origin)).output_digest
    capture = await toolkit_process(
        toolkit,
        ["capture-python", "--description=python.json", "--output=python"],
        description=f"Capture the Python interpreter {interpreter.path}",
        input_digests=[description],
        output_directories=["python"],
    )
    captured = (await run_step(capture, origin)).output_digest
    return PythonRuntime(await engine.remove_prefix(captured, "python"))


async def python_layer(runtime: PythonRuntime, origin: str, toolkit: Toolkit, toolchain: LinkToolchain) -> RootfsLayer:
    process = await toolkit_process(
        toolkit,
        ["python-layer", f"--runtime={_RUNTIME}", f"--strip={toolchain.paths['strip']}", "--output=python.cpio"],
        description="Lay out the Python interpreter and its standard library",
        immutable_input_digests={_RUNTIME: runtime.digest},
        env=toolchain.environment,
        output_files=["python.cpio", "python.json"],
    )
    return RootfsLayer("python", (await run_step(process, origin)).output_digest)


# --- the application's layers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LaidOutApplication:
    """`distributions` are a PEX's as it has them, one archive in a digest, and `runtime` is the interpreter that it needs."""

    layer: RootfsLayer
    runtime: Optional[PythonRuntime]
    distributions: Optional[Digest]


async def docker_image_layer(
    app: PackagedApp, executable: str | None, origin: str, toolkit: Toolkit, *, machine: str = MACHINE
) -> RootfsLayer:
    """All files of an image that a Docker engine has. It is asked again only for another image."""
    environment = await engine.environment_variables(EnvironmentVarsRequest(_DOCKER_ENVIRONMENT))
    what = f"{origin}: docker, whose engine has the image of {app.target.address},"
    docker = await find_program("docker", environment, what)
    argv = [
        "docker-image-layer",
        f"--docker={docker}",
        f"--image-id={app.docker_image}",
        f"--name={app.target.address}",
    ]
    argv += [f"--machine={machine}"]
    argv += [f"--executable={executable}"] if executable is not None else []
    process = await toolkit_process(
        toolkit,
        [*argv, "--output=application.cpio"],
        description=f"Lay out {app.target.address}",
        env=environment,
        output_files=["application.cpio", "application.json"],
    )
    return RootfsLayer("application", (await run_step(process, origin)).output_digest)


async def lay_out_application(
    app: PackagedApp,
    executable: str | None,
    origin: str,
    toolkit: Toolkit,
    toolchain: LinkToolchain,
    *,
    machine: str = MACHINE,
) -> LaidOutApplication:
    if app.docker_image:
        return LaidOutApplication(await docker_image_layer(app, executable, origin, toolkit, machine=machine), None, None)
    runtime = None
    if app.constraints is not None:
        runtime = await capture_python_runtime(app.constraints, origin, toolkit)
    argv = ["application-layer", f"--root={_ARTIFACTS}", f"--machine={machine}", "--output=application.cpio"]
    # The host's strip knows programs for the host.
    argv += [f"--strip={toolchain.paths['strip']}"] if machine == MACHINE else []
    argv += [f"--artifact={path}" for path in app.paths]
    argv += [f"--executable={executable}"] if executable is not None else []
    argv += [f"--runtime={_RUNTIME}"] if runtime is not None else []
    process = await toolkit_process(
        toolkit,
        [*argv, "--distributions=distributions.tar"],
        description=f"Lay out {app.target.address}",
        input_digests=[await engine.add_prefix(app.digest, _ARTIFACTS)],
        immutable_input_digests={_RUNTIME: runtime.digest} if runtime is not None else {},
        env=toolchain.environment,
        output_files=["application.cpio", "application.json", "distributions.tar"],
    )
    result = await run_step(process, origin)
    if runtime is None:
        # Only a PEX has distributions, and no layer is made of one without an interpreter.
        return LaidOutApplication(RootfsLayer("application", result.output_digest), None, None)
    outputs = await engine.digest_entries(result.output_digest)
    entries = {entry.path: entry for entry in outputs if isinstance(entry, FileEntry)}
    distributions = entries.pop("distributions.tar", None)
    layer = RootfsLayer("application", await engine.create_digest(entries.values()))
    if distributions is None:
        return LaidOutApplication(layer, None, None)
    return LaidOutApplication(layer, runtime, await engine.create_digest([distributions]))


async def application_layers(application: LaidOutApplication, origin: str, toolkit: Toolkit) -> list[RootfsLayer]:
    """The application's own, and that of its distributions, if it has any."""
    layers = [application.layer]
    if application.distributions is not None and application.runtime is not None:
        layers.append(await distributions_layer(application.distributions, application.runtime, origin, toolkit))
    return layers


async def distributions_layer(raw: Digest, runtime: PythonRuntime, origin: str, toolkit: Toolkit) -> RootfsLayer:
    process = await toolkit_process(
        toolkit,
        ["distributions-layer", "--distributions=distributions.tar", f"--runtime={_RUNTIME}", "--output=distributions.cpio"],
        description="Lay out third-party distributions",
        input_digests=[raw],
        immutable_input_digests={_RUNTIME: runtime.digest},
        output_files=["distributions.cpio", "distributions.json"],
    )
    return RootfsLayer("distributions", (await run_step(process, origin)).output_digest)


# --- shared libraries ---------------------------------------------------------------------------------------------


@rule(desc="Read the index of a layer", level=LogLevel.TRACE)
async def read_layer_index(layer: RootfsLayer) -> LayerIndex:
    return LayerIndex.parse(await engine.file_content(layer.digest, layer.index), layer.index)


async def libraries_layer(
    layers: Iterable[RootfsLayer], origin: str, toolkit: Toolkit, *, machine: str = MACHINE
) -> RootfsLayer | None:
    """What the layers need and none of them has, from this machine; None when there is nothing."""
    needs = _unmet_needs(await engine.read_layer_indexes(layers), machine)
    if not needs["needs"] and not needs["loaders"]:
        return None
    content = json.dumps(needs, indent=1, sort_keys=True).encode()
    describe = await toolkit_process(
        toolkit,
        ["describe-libraries", "--needs=needs.json", "--output=description.json"],
        description=f"Find the shared libraries of {origin}",
        input_digests=[await engine.create_digest([FileContent("needs.json", content)])],
        output_files=["description.json"],
        cache_scope=ProcessCacheScope.PER_RESTART_SUCCESSFUL,
    )
    description = (await run_step(describe, origin)).output_digest
    capture = await toolkit_process(
        toolkit,
        ["libraries-layer", "--description=description.json", "--output=libraries.cpio"],
        description="Lay out shared libraries",
        input_digests=[description],
        output_files=["libraries.cpio", "libraries.json"],
    )
    return RootfsLayer("libraries", (await run_step(capture, origin)).output_digest)


def _unmet_needs(indexes: Iterable[LayerIndex], machine: str) -> dict[str, Any]:
    indexes = tuple(indexes)
    provides = {soname for index in indexes for soname in index.provides}
    paths = {entry.path for index in indexes for entry in index.entries}
    needs: dict[str, str] = {}
    searched: dict[str, Any] = {}
    loaders: dict[str, str] = {}
    for index in indexes:
        for soname, needed_by in sorted(index.needs.items()):
            if soname not in provides and soname not in needs:
                needs[soname] = needed_by
                if soname in index.searched:
                    searched[soname] = index.searched[soname]
        for loader, needed_by in sorted(index.programs.items()):
            # A Docker image may have it behind a link.
            if loader not in paths and loader not in provides:
                loaders.setdefault(loader, needed_by)
    return {"needs": needs, "searched": searched, "loaders": loaders, "provides": sorted(provides), "machine": machine}


# --- extra files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _DeclaredFiles:
    declared: PlacedFile
    target: Target
    digest: Digest
    paths: tuple[str, ...]
    is_package: bool


async def files_layer(field: UnikernelImageFilesField, toolkit: Toolkit, *, machine: str = MACHINE) -> RootfsLayer | None:
    if not field.value:
        return None
    placed: list[PlacedFile] = []
    digests: list[Digest] = []
    for number, declared in enumerate(field.value):
        files = await _declared_files(declared, field)
        prefix = f"files/{number}"
        digests.append(await engine.add_prefix(files.digest, prefix))
        placed += _place(files, prefix)
    _check_destinations(placed, field.address)
    placement = FileContent("files.json", to_json(placed).encode())
    digests.append(await engine.create_digest([placement]))
    process = await toolkit_process(
        toolkit,
        ["files-layer", "--files=files.json", "--root=.", f"--machine={machine}", "--output=files.cpio"],
        description=f"Lay out the extra files of {field.address}",
        input_digests=digests,
        output_files=["files.cpio", "files.json"],
    )
    result = await run_step(process, str(field.address))
    return RootfsLayer("files", result.output_digest)


async def _declared_files(declared: PlacedFile, field: UnikernelImageFilesField) -> _DeclaredFiles:
    targets = await engine.find_targets(
        UnparsedAddressInputs(
            [declared.source],
            owning_address=field.address,
            description_of_origin=field.to_unparsed_address_inputs().description_of_origin,
        )
    )
    loose = [target for target in targets if target.has_field(FileSourceField) or target.has_field(ResourceSourceField)]
    if len(loose) == len(targets) and targets:
        sources = await engine.hydrate_all_sources(
            HydrateSourcesRequest(
                target.get(SourcesField), for_sources_types=(FileSourceField, ResourceSourceField), enable_codegen=True
            )
            for target in targets
        )
        paths = tuple(sorted({path for hydrated in sources for path in hydrated.snapshot.files}))
        digest = await engine.merge_digests(hydrated.snapshot.digest for hydrated in sources)
        return _DeclaredFiles(declared, targets[0], digest, paths, is_package=False)
    packages = await package_targets(targets, field.address, field.alias)
    paths = tuple(artifact.relpath for package in packages for artifact in package.artifacts if artifact.relpath)
    digest = await engine.merge_digests(package.digest for package in packages)
    return _DeclaredFiles(declared, targets[0], digest, paths, is_package=True)


def _place(files: _DeclaredFiles, prefix: str) -> list[PlacedFile]:
    declared = files.declared
    into_directory = declared.destination.endswith("/") or len(files.paths) > 1
    placed = []
    for path in files.paths:
        destination = declared.destination
        if into_directory:
            destination = os.path.join(destination, _relative(path, files))
        placed.append(dataclasses.replace(declared, source=f"{prefix}/{path}", destination=destination))
    return placed


def _relative(path: str, files: _DeclaredFiles) -> str:
    if files.is_package:
        return os.path.basename(path)
    directory = files.target.address.spec_path
    return os.path.relpath(path, directory) if path.startswith(f"{directory}/") else path


def _check_destinations(placed: list[PlacedFile], address: Address) -> None:
    by_destination: dict[str, str] = {}
    for file in placed:
        other = by_destination.setdefault(file.destination, file.source)
        if other != file.source:
            names = " and ".join(source.split("/", 2)[2] for source in (other, file.source))
            raise UnikernelBuildError(f"{address}: the `files` field places both {names} at {file.destination}.")


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
