"""The debug file beside an image: what its stripped parts were before, for debuggers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from pants.engine.fs import Digest
from pants.util.frozendict import FrozenDict

from pants_unikernel import engine
from pants_unikernel.image_types import BuiltDebugFile, BuiltImage, DebugInputs, RootfsLayer, Toolkit, UnikernelImageFieldSet
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.failures import UnikernelBuildError, run_step
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_library_os
from pants_unikernel.util_rules.rootfs import PackagedApp, PlacedLayers, capture_python_runtime
from unikernel.library_os.description import LibraryOs, Pack, RootfsForm
from unikernel.signing.files import debug_path

_ARTIFACTS = "__artifacts"
_RUNTIME = "__runtime"
_SYMBOLS = "__symbols"


def artifact_path(path: str) -> str:
    """Where the step finds a packaged artifact of the application."""
    return os.path.join(_ARTIFACTS, path)


async def rootfs_debug_inputs(
    arguments: Iterable[str],
    app: PackagedApp,
    layers: Iterable[RootfsLayer],
    placed: PlacedLayers,
    origin: str,
    toolkit: Toolkit,
    *,
    immutable_inputs: Mapping[str, Digest] = FrozenDict(),
    environment: Mapping[str, str] = FrozenDict(),
) -> DebugInputs:
    """Of an image with a root file system; `arguments` tell where its kernel's symbols are. Nothing of it takes time."""
    words = [*arguments, *(f"--layer={path}" for path in placed.paths)]
    inputs, immutable = [("", digest) for digest in placed.digests], {**placed.immutable_inputs, **immutable_inputs}
    if not app.docker_image:
        words += [f"--root={_ARTIFACTS}", *(f"--artifact={path}" for path in app.paths)]
        inputs.append((_ARTIFACTS, app.digest))
    if app.constraints is not None and any(layer.name == "python" for layer in layers):
        # It was captured for its layer: the same process.
        immutable[_RUNTIME] = (await capture_python_runtime(app.constraints, origin, toolkit)).digest
        words.append(f"--runtime={_RUNTIME}")
    return DebugInputs(tuple(words), tuple(inputs), FrozenDict(immutable), FrozenDict(environment))


def program_debug_inputs(program: Digest, path: str) -> DebugInputs:
    """Of an image that is a program, which has its symbols as the file `path` of the digest."""
    return DebugInputs((f"--symbols={os.path.join(_SYMBOLS, path)}",), ((_SYMBOLS, program),))


def _says_nothing(library_os: LibraryOs) -> bool:
    """What a tool made of a kernel and of files has no symbols, nor tells whose it has."""
    build = library_os.build
    return isinstance(build, Pack) and not build.kernel and build.rootfs is not RootfsForm.PROGRAM


async def check_debug_file(field_set: UnikernelImageFieldSet, library_oses: LibraryOsTargets) -> None:
    """Raises UnikernelBuildError where a library OS's images have nothing to debug them with."""
    if _says_nothing((await describe_library_os(field_set, library_oses)).description):
        raise UnikernelBuildError(
            f"{field_set.address}: the `{field_set.formats.alias}` field has debug, and an image of {field_set.library_os.value} is packed "
            "without an ELF file that has symbols: leave it out."
        )


async def debug_file_of(field_set: UnikernelImageFieldSet, image: BuiltImage, toolkit: Toolkit) -> BuiltDebugFile:
    """The debug file of an image that `build_image` made of the target, whether its `formats` ask for one or not. Raises
    UnikernelBuildError for an image without symbols.
    """
    origin = str(field_set.address)
    inputs = image.debug
    if inputs is None:
        raise UnikernelBuildError(
            f"{origin}: an image of {field_set.library_os.value} is packed without an ELF file that has symbols: there is nothing to debug it "
            "with."
        )
    path = debug_path(image.path)
    parts = [await engine.part_of(image.digest, [image.path])]
    for directory, part in inputs.inputs:
        parts.append(await engine.add_prefix(part, directory) if directory else part)
    process = await toolkit_process(
        toolkit,
        ["debug-file", f"--image={image.path}", *inputs.arguments, f"--output={path}"],
        description=f"Write the debug file of {origin}",
        input_digests=parts,
        immutable_input_digests=inputs.immutable_inputs,
        env=inputs.environment,
        output_files=[path],
    )
    digest = (await run_step(process, origin)).output_digest
    file = await engine.file_digest(digest, path)
    return BuiltDebugFile(digest, path, file.serialized_bytes_length, file.fingerprint)
