"""Configurations for the hypervisors that boot an image, beside it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from pants.engine.fs import EMPTY_DIGEST, Digest

from pants_unikernel import engine
from pants_unikernel.image_types import BuiltImage, Toolkit, UnikernelImageFieldSet
from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.embedded_image import kernel_options
from pants_unikernel.util_rules.failures import errors_of, run_steps
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_library_os
from unikernel.hypervisors import HYPERVISORS
from unikernel.hypervisors.support import check_cpus, check_options, supported
from unikernel.library_os.description import LibraryOs


@dataclass(frozen=True)
class HypervisorConfigs:
    digest: Digest
    paths: tuple[str, ...]


def _hypervisors(field_set: UnikernelImageFieldSet) -> list[str]:
    return [name for name in field_set.formats.value if name in HYPERVISORS]


async def check_hypervisors(field_set: UnikernelImageFieldSet, library_oses: LibraryOsTargets, linux: UnikernelLinux) -> None:
    """Raises UnikernelBuildError for a hypervisor that the target names and that cannot do what it declares."""
    names = _hypervisors(field_set)
    if names:
        description = (await describe_library_os(field_set, library_oses)).description
        check_hypervisors_of(field_set, names, description, linux)


def check_hypervisors_of(
    field_set: UnikernelImageFieldSet, names: Iterable[str], library_os: LibraryOs, linux: UnikernelLinux
) -> None:
    cpus, origin = field_set.cpus.value, f"{field_set.address}: the `{field_set.formats.alias}` field has "
    options = kernel_options(field_set, linux)
    for name in names:
        with errors_of(f"{origin}{name}"):
            support = supported(library_os, name)
            check_cpus(cpus, name, "the image")
            check_options(options, support, cpus, HYPERVISORS[name])


async def hypervisor_configs_of(
    field_set: UnikernelImageFieldSet, image: BuiltImage, library_oses: LibraryOsTargets, toolkit: Toolkit
) -> HypervisorConfigs:
    names = _hypervisors(field_set)
    if not names:
        return HypervisorConfigs(EMPTY_DIGEST, ())
    only_image = await engine.part_of(image.digest, [image.path])
    paths = [posixpath.splitext(image.path)[0] + HYPERVISORS[name].ending for name in names]
    processes = [
        await toolkit_process(
            toolkit,
            ["hypervisor-config", image.path, f"--for={name}", f"--output={path}"],
            description=f"Configure {HYPERVISORS[name].title} for {field_set.address}",
            input_digests=[only_image],
            output_files=[path],
        )
        for name, path in zip(names, paths)
    ]
    results = await run_steps(processes, str(field_set.address))
    return HypervisorConfigs(await engine.merge_digests([result.output_digest for result in results]), tuple(paths))
