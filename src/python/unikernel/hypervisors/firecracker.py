"""Firecracker's configuration, for its option --config-file: the API's FullVmConfiguration (src/firecracker/swagger/firecracker.yaml and
docs/getting-started.md of github.com/firecracker-microvm/firecracker). Paths are relative to the directory that Firecracker is started in.
"""

from __future__ import annotations

import json
from typing import Any

from unikernel.hypervisors.machine import Machine


def configuration(machine: Machine) -> str:
    document: dict[str, Any] = {
        # Without boot_args Firecracker has parameters of its own for the kernel, without a serial port.
        "boot-source": {"kernel_image_path": machine.image, "boot_args": machine.command_line},
        # It is not optional.
        "drives": [],
        "machine-config": {"vcpu_count": machine.cpus, "mem_size_mib": machine.memory},
    }
    if machine.has_network:
        # It has to be called something; the guest does not see how.
        document["network-interfaces"] = [{"iface_id": "net0", "host_dev_name": machine.attachment}]
    return json.dumps(document, indent=2) + "\n"
