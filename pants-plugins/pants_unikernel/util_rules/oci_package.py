"""A package of a unikernel image, for registries and for container runtimes that boot unikernels."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable

from pants.engine.fs import FileContent
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.image_types import BuiltLayout, BuiltLayouts, OciPackageRequest, Toolkit
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.failures import run_step
from pants_unikernel.util_rules.image import image_of_layout
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_library_os

_SETTINGS = "package.json"


@rule(desc="Make an OCI package of a unikernel image", level=LogLevel.DEBUG)
async def build_oci_package(request: OciPackageRequest, library_oses: LibraryOsTargets, toolkit: Toolkit) -> BuiltLayouts:
    field_set, image = request.field_set, request.image
    origin = str(field_set.address)
    library_os = (await describe_library_os(field_set, library_oses)).description
    name = posixpath.splitext(image.path)[0]
    formats = ["oci", "kraftkit"] if library_os.kraftkit is not None else ["oci"]
    paths = {kind: f"{name}.{kind}" for kind in formats}
    settings = FileContent(_SETTINGS, json.dumps({"labels": dict(field_set.labels.value or {})}, sort_keys=True).encode())
    process = await toolkit_process(
        toolkit,
        [
            "oci-package",
            f"--image={image.path}",
            f"--settings={_SETTINGS}",
            f"--layout={paths['oci']}",
            *([f"--kraftkit={paths['kraftkit']}"] if "kraftkit" in paths else []),
        ],
        description=f"Make an OCI package of {origin}",
        input_digests=[await engine.part_of(image.digest, [image.path]), await engine.create_digest([settings])],
        output_directories=paths.values(),
    )
    digest = (await run_step(process, origin)).output_digest
    return BuiltLayouts([BuiltLayout(kind, digest, path, await image_of_layout(digest, path)) for kind, path in paths.items()])


def rules() -> Iterable[Rule | UnionRule]:
    return collect_rules()
