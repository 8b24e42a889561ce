from __future__ import annotations

from typing import Any

import pytest
from pants.engine.addresses import Address
from pants.testutil.option_util import create_subsystem

from pants_unikernel.image_types import UnikernelImageFieldSet
from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.target_types import UnikernelImageTarget
from pants_unikernel.util_rules.embedded_image import kernel_options
from pants_unikernel.util_rules.failures import UnikernelBuildError
from pants_unikernel.util_rules.image import image_spec
from unikernel.image.spec import Network, Port


def field_set(name: str = "unikernel", **fields: Any) -> UnikernelImageFieldSet:
    address = Address("services/web", target_name=name)
    return UnikernelImageFieldSet.create(UnikernelImageTarget({"app": ":web", **fields}, address))


def linux(*kernel_config: str) -> UnikernelLinux:
    return create_subsystem(UnikernelLinux, kernel_config=list(kernel_config))


def test_fields_become_the_specification_of_an_image() -> None:
    spec = image_spec(
        field_set(
            "my_service",
            args=["--a", "b c"],
            env={"KEY": "value"},
            memory="64M",
            cpus=2,
            network="static",
            ip_address="10.0.0.2/24",
            gateway="10.0.0.1",
            nameservers=["10.0.0.3"],
            ports=["8080:80"],
            timezone="Europe/Paris",
            working_directory="/srv",
            kernel_parameters=["loglevel=7"],
        )
    )
    assert (spec.name, spec.target, spec.library_os) == ("my_service", "services/web:my_service", "linux")
    assert (spec.memory, spec.cpus, spec.arguments, spec.environment) == (64 << 20, 2, ("--a", "b c"), {"KEY": "value"})
    assert spec.network == Network("static", "10.0.0.2/24", "10.0.0.1", ("10.0.0.3",), "my-service")
    assert spec.ports == (Port(80, 8080),)
    assert (spec.timezone, spec.working_directory, spec.kernel_parameters) == ("Europe/Paris", "/srv", ("loglevel=7",))


def test_declared_hostname_is_kept() -> None:
    assert image_spec(field_set(hostname="web1.example")).hostname == "web1.example"


def test_kernel_options_have_one_form() -> None:
    first = field_set(kernel_config=["CONFIG_IPV6=y", "CONFIG_BTRFS_FS=n"])
    second = field_set(kernel_config=["# CONFIG_BTRFS_FS is not set", " CONFIG_IPV6=y", "CONFIG_IPV6=y"])
    assert kernel_options(first, linux()) == kernel_options(second, linux()) == ["CONFIG_BTRFS_FS=n", "CONFIG_IPV6=y"]
    assert kernel_options(field_set(), linux()) == []


def test_target_overrides_the_options_of_the_repository() -> None:
    options = linux("CONFIG_HZ=250", "CONFIG_IPV6=y")
    assert kernel_options(field_set(kernel_config=["CONFIG_HZ=100"]), options) == ["CONFIG_HZ=100", "CONFIG_IPV6=y"]


def test_several_cpus_get_a_kernel_for_several_processors() -> None:
    assert kernel_options(field_set(cpus=4), linux()) == ["CONFIG_SMP=y"]
    with pytest.raises(UnikernelBuildError, match="services/web:unikernel: `cpus` is 4, and `kernel_config` switches off"):
        kernel_options(field_set(cpus=4, kernel_config=["CONFIG_SMP=n"]), linux())


def test_option_of_the_repository_that_makes_no_sense_names_itself() -> None:
    with pytest.raises(UnikernelBuildError, match=r"\[unikernel-linux\]\.kernel_config: 'IPV6' is no kernel option"):
        kernel_options(field_set(), linux("IPV6"))
