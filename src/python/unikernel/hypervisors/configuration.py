"""Writes a hypervisor's configuration for an image."""

from __future__ import annotations

import sys
from pathlib import Path

from unikernel.errors import UnikernelError
from unikernel.hypervisors import HYPERVISORS, cloud_hypervisor, firecracker, libvirt, xl
from unikernel.hypervisors.machine import Choices, machine_of, warnings
from unikernel.image.manifest import read_manifest

_WRITERS = {
    "cloud-hypervisor": cloud_hypervisor.configuration,
    "firecracker": firecracker.configuration,
    "libvirt": libvirt.configuration,
    "xl": xl.configuration,
}


def write_configuration(image: Path, hypervisor: str, output: Path | None = None, choices: Choices | None = None) -> Path:
    """Returns where it was written to: beside the image, if `output` does not say. What the machine will not do of what the image declares
    is said on standard error. Raises UnikernelError for what the hypervisor cannot do for the image.
    """
    about = HYPERVISORS[hypervisor]
    output = output or image.with_name(image.stem + about.ending)
    machine = machine_of(image, read_manifest(image), hypervisor, output, choices or Choices())
    for line in warnings(machine, about):
        print(f"unikernel: {line}", file=sys.stderr)
    try:
        output.write_text(_WRITERS[hypervisor](machine), encoding="utf-8")
        if output.suffix == ".sh":
            output.chmod(0o755)
    except OSError as error:
        raise UnikernelError(f"{output} cannot be written: {error.strerror}.") from error
    return output
