from __future__ import annotations

from typing import Any

import pytest
from pants.engine.addresses import Address
from pants.engine.target import InvalidTargetException

from pants_unikernel.target_types import (
    UnikernelImageFilesField,
    UnikernelImageMemoryField,
    UnikernelImagePortsField,
    UnikernelImageTarget,
    default_hostname,
)
from unikernel.image.spec import Network, Port
from unikernel.rootfs.files import PlacedFile

ADDRESS = Address("services/web", target_name="unikernel")


def target(**fields: Any) -> UnikernelImageTarget:
    return UnikernelImageTarget({"app": ":web", **fields}, ADDRESS)


def test_values_become_what_the_toolkit_works_with() -> None:
    image = target(
        memory="64MiB",
        ports=["8080:80", "53/udp", "8080:80"],
        files=[(":config", "/etc//web/"), ("//tools:migrate", "/usr/bin/./migrate", "0755")],
    )
    assert image[UnikernelImageMemoryField].bytes == 64 << 20
    assert image[UnikernelImagePortsField].ports == (Port(80, 8080), Port(53, 53, "udp"))
    assert image[UnikernelImageFilesField].value == (
        PlacedFile(":config", "/etc/web/"),
        PlacedFile("//tools:migrate", "/usr/bin/migrate", "0755"),
    )
    assert image.network() == Network(mode="dhcp")


def test_defaults() -> None:
    image = target()
    assert image[UnikernelImageMemoryField].bytes is None
    assert image[UnikernelImagePortsField].ports == ()
    assert image[UnikernelImageFilesField].value == ()


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"memory": "lots"}, "`memory`"),
        ({"memory": "0M"}, "`memory`"),
        ({"ports": ["65536"]}, "`ports`"),
        ({"ports": ["80:1", "80:2"]}, "two entries use the host's port 80/tcp"),
        ({"cpus": 65}, "65 is not between 1 and 64"),
        ({"network": "wifi"}, "network"),
        ({"formats": ["elf", "docker"]}, "formats"),
        ({"formats": ["container"]}, "it is .'container'.; name elf, and each other format once"),
        ({"formats": ["elf", "elf"]}, "name elf, and each other format once"),
        ({"env": {"A=B": "c"}}, "'A=B' is no name of a variable"),
        ({"working_directory": "srv"}, "'srv' is no absolute path"),
        ({"kernel_config": ["CONFIG_NET"]}, "'CONFIG_NET' is no kernel option"),
        ({"kernel_config": ["CONFIG_HZ=100", "CONFIG_HZ=250"]}, "CONFIG_HZ is set to both 100 and 250"),
        ({"files": [(":a", "/x"), (":b", "/x")]}, "the destination '/x' is there twice"),
        ({"files": [(":a", "/x"), (":b", "//x/.")]}, "the destination '/x' is there twice"),
        ({"files": [(":a", "../x")]}, "no absolute path"),
        ({"files": [(":a", "/x/../../y")]}, "no absolute path"),
        ({"files": [(":a", "/x", "0999")]}, "no mode"),
        ({"files": [(":a",)]}, "`files`|'files'"),
        ({"files": ":a"}, "`files`|'files'"),
    ],
)
def test_field_that_makes_no_sense_names_field_and_target(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTargetException, match=words) as caught:
        target(**fields)
    assert "services/web:unikernel" in str(caught.value)


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"network": "static"}, "ip_address"),
        ({"network": "static", "ip_address": "10.0.0.2/24", "gateway": "10.0.1.1"}, "gateway"),
        ({"ip_address": "10.0.0.2/24"}, "ip_address"),
        ({"network": "none", "gateway": "10.0.0.1"}, "gateway"),
        ({"nameservers": ["one.one.one.one"]}, "nameservers"),
        ({"hostname": "-x"}, "hostname"),
    ],
)
def test_fields_that_contradict_each_other_name_the_one_to_mend(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidTargetException, match=f"The `{field}` field in target services/web:unikernel"):
        target(**fields).validate()


def test_order_and_repetition_of_equal_kernel_options_are_fine() -> None:
    target(kernel_config=["CONFIG_IPV6=y", "CONFIG_HZ=100", "CONFIG_IPV6=y"]).validate()


@pytest.mark.parametrize(
    "name, hostname",
    [("unikernel", "unikernel"), ("my_service@os=linux", "my-service-os-linux"), ("__", "unikernel"), ("x" * 80, "x" * 63)],
)
def test_default_hostname_is_one(name: str, hostname: str) -> None:
    assert default_hostname(name) == hostname
    Network(hostname=hostname).validate()
