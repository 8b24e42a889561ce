"""Configurations for the hypervisors that boot an image's ELF file itself, by its PVH entry: see docs/hypervisors.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypervisor:
    """`ending` is that of a configuration's name, after the image's without its own. `attachment` is what the image's network card is
    attached to on the host, for people, and `default_attachment` which one if nothing is said; ports are forwarded with the one that is called
    `forwarder` only. `directory` is where images are looked for that are put there, for a hypervisor that takes absolute paths only.
    """

    title: str
    ending: str
    attachment: str
    default_attachment: str
    most_cpus: int
    directory: str = ""
    forwarder: str = ""


# By the name that library OSes' descriptions and the field `formats` have for them. The most CPUs are after Firecracker's API definition
# (MachineConfiguration), cloud-hypervisor's arch/src/x86_64 (in an MP table), QEMU's q35 without an IOMMU, and Xen's HVM_MAX_VCPUS.
HYPERVISORS = {
    "cloud-hypervisor": Hypervisor("cloud-hypervisor", ".cloud-hypervisor.sh", "tap device", "tap0", 254),
    "firecracker": Hypervisor("Firecracker", ".firecracker.json", "tap device", "tap0", 32),
    "libvirt": Hypervisor("libvirt", ".libvirt.xml", "network of libvirt", "default", 255, "/var/lib/libvirt/images", "passt"),
    "xl": Hypervisor("Xen", ".xl.cfg", "bridge", "xenbr0", 128),
}
