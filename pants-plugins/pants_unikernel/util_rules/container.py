"""A container image of the root file system that a unikernel image has: the same layers, written down another way."""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Iterable
from typing import Any

from pants.backend.python.subsystems.setup import PythonSetup
from pants.engine.fs import FileContent
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.image_types import BuiltLayout, ContainerRequest, Toolkit, UnikernelImageFieldSet
from pants_unikernel.linux_types import LinkToolchain
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.failures import UnikernelBuildError, run_step
from pants_unikernel.util_rules.image import image_of_layout, image_spec, spec_file
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_library_os
from pants_unikernel.util_rules.rootfs import package_app, place_layers, rootfs_layers
from unikernel.library_os.description import Link, Pack, RootfsForm

_SETTINGS = "container.json"


async def check_container(field_set: UnikernelImageFieldSet, library_oses: LibraryOsTargets) -> None:
    """Raises UnikernelBuildError where there is no root file system to make a container of."""
    build = (await describe_library_os(field_set, library_oses)).description.build
    if isinstance(build, Link) or (isinstance(build, Pack) and build.rootfs is RootfsForm.PROGRAM):
        raise UnikernelBuildError(
            f"{field_set.address}: the `{field_set.formats.alias}` field has container, and an image of {field_set.library_os.value} has no "
            "root file system: leave it out."
        )


@rule(desc="Make a container image", level=LogLevel.DEBUG)
async def build_container(
    request: ContainerRequest,
    library_oses: LibraryOsTargets,
    python_setup: PythonSetup,
    toolkit: Toolkit,
    link_toolchain: LinkToolchain,
) -> BuiltLayout:
    field_set = request.field_set
    origin = str(field_set.address)
    described = await describe_library_os(field_set, library_oses)
    app = await package_app(field_set.app, python_setup)
    layers = await rootfs_layers(field_set, app, toolkit, link_toolchain, machine=described.description.architecture)
    placed = place_layers(layers)
    name = posixpath.splitext(field_set.output_path.value_or_default(file_ending=described.suffix))[0]
    layout, archive = f"{name}.container", f"{name}.container.tar"
    settings: dict[str, Any] = {
        "tag": _tag(field_set.address.spec_path, name),
        "labels": dict(field_set.labels.value or {}),
    }
    # What only a machine has is not in it, so that changing it makes no container anew.
    spec = spec_file(dataclasses.replace(image_spec(field_set), memory=None, cpus=1, kernel_parameters=()))
    documents = [spec, FileContent(_SETTINGS, json.dumps(settings, sort_keys=True).encode())]
    process = await toolkit_process(
        toolkit,
        [
            "container",
            f"--spec={spec.path}",
            f"--settings={_SETTINGS}",
            *(f"--layer={path}" for path in placed.paths),
            f"--layout={layout}",
            f"--archive={archive}",
        ],
        description=f"Make a container image of {origin}",
        input_digests=[*placed.digests, await engine.create_digest(documents)],
        immutable_input_digests=placed.immutable_inputs,
        output_files=[archive],
        output_directories=[layout],
    )
    digest = (await run_step(process, origin)).output_digest
    return BuiltLayout("container", digest, layout, await image_of_layout(digest, layout), archive=archive)


def _tag(directory: str, path: str) -> str:
    """What Docker calls the image: the last directory and the image's name, in the letters that a reference may have."""
    words = [posixpath.basename(directory), posixpath.basename(path)]
    clean = [
        "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in word.lower()).strip("-") for word in words
    ]
    return "/".join(word for word in clean if word) + ":latest"


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
