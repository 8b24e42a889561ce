from __future__ import annotations

from typing import Any

import pytest
from pants.engine.addresses import Address
from pants.testutil.option_util import create_subsystem

from pants_unikernel.image_types import UnikernelImageFieldSet
from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.target_types import UnikernelImageTarget
from pants_unikernel.util_rules.failures import UnikernelBuildError
from pants_unikernel.util_rules.hypervisor_configs import check_hypervisors_of
from unikernel.library_os import find_library_os

XEN = ["CONFIG_ACPI=y", "CONFIG_HVC_XEN=y", "CONFIG_XEN=y", "CONFIG_XEN_NETDEV_FRONTEND=y", "CONFIG_XEN_PVH=y"]


def check(*names: str, repository: tuple[str, ...] = (), **fields: Any) -> None:
    target = UnikernelImageTarget({"app": ":web", **fields}, Address("services/web", target_name="unikernel"))
    linux = create_subsystem(UnikernelLinux, kernel_config=list(repository))
    check_hypervisors_of(UnikernelImageFieldSet.create(target), names, find_library_os(fields.get("library_os", "linux")), linux)


def test_the_kernel_of_an_image_boots_as_it_is_but_under_xen() -> None:
    check("firecracker", "cloud-hypervisor", "libvirt")
    check("firecracker", "cloud-hypervisor", cpus=2)
    with pytest.raises(UnikernelBuildError) as raised:
        check("xl")
    assert str(raised.value) == (
        "services/web:unikernel: the `formats` field has xl: its kernel knows nothing of Xen; build it with kernel_config=["
        + ", ".join(f'"{option}"' for option in XEN)
        + "]."
    )


def test_options_are_the_targets_and_the_repositorys() -> None:
    check("xl", kernel_config=XEN)
    check("xl", repository=tuple(XEN))
    check("xl", "libvirt", repository=tuple(XEN[:2]), kernel_config=XEN[2:], cpus=2)
    with pytest.raises(UnikernelBuildError, match=r'build it with kernel_config=\["CONFIG_XEN_PVH=y"\]'):
        check("xl", repository=tuple(XEN), kernel_config=["CONFIG_XEN_PVH=n"])


def test_several_cpus_take_what_they_are_found_by() -> None:
    check("libvirt", cpus=2, kernel_config=["CONFIG_ACPI=y"])
    with pytest.raises(
        UnikernelBuildError,
        match=r'has libvirt: its kernel would find only one of 2 CPUs there; build it with kernel_config=\["CONFIG_ACPI=y"\]',
    ):
        check("libvirt", cpus=2)
    with pytest.raises(
        UnikernelBuildError, match="has firecracker: the image is to have 33 CPUs, and Firecracker gives a machine 32 at most"
    ):
        check("firecracker", cpus=33)


def test_a_library_os_that_is_booted_elsewhere_is_refused() -> None:
    with pytest.raises(UnikernelBuildError, match="the `formats` field has xl: Xen does not boot images of nanos: its description"):
        check("xl", library_os="nanos")
