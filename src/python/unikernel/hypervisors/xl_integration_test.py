"""Held against Xen's own parser and manual."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from unikernel.hypervisors.configuration import write_configuration
from unikernel.hypervisors.machine import Choices
from unikernel.image.manifest_pb2 import Network
from unikernel.testing.hypervisors import pvh_image
from unikernel.testing.xen import vif_keys, xl_keys, xl_settings


def _settings(image: Path, **choices: Any) -> dict[str, Any]:
    """What xl reads, which is all that the file says."""
    config = write_configuration(image, "xl", choices=Choices(**choices))
    assert config == image.with_name(image.stem + ".xl.cfg")
    settings = xl_settings(config)
    assert set(re.findall("^([a-z_]+) = ", config.read_text(), re.MULTILINE)) == settings.keys()
    for card in settings.get("vif", []):
        assert {word.partition("=")[0] for word in card.split(",")} <= vif_keys()
    return settings


def test_a_configuration_says_what_the_image_declares(tmp_path: Path) -> None:
    assert _settings(pvh_image(tmp_path / "unikernel.elf", cpus=2, memory_bytes=(64 << 20) + 1)) == {
        "name": "hello-unikernel",
        "type": "pvh",
        "kernel": "unikernel.elf",
        # A PVH guest has no serial port.
        "cmdline": "console=hvc0",
        "memory": 65,
        "vcpus": 2,
        "vif": ["bridge=xenbr0"],
        "on_poweroff": "destroy",
        "on_reboot": "destroy",
        "on_crash": "destroy",
    }


def test_an_image_without_a_network_has_no_card(tmp_path: Path) -> None:
    assert "vif" not in _settings(pvh_image(tmp_path / "unikernel.elf", network=Network(mode="none")))


@pytest.mark.parametrize("name", ["a b", "a,b='c'&<é>", 'say "hi"', "back\\slash", "\\", "\\x41\\n", "#no;comment", "[x]", "-dash"])
def test_any_name_and_path_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    image = pvh_image(tmp_path / f"{name}.elf")
    settings = _settings(image, name=name, attachment="br-1.2")
    assert (settings["name"], settings["vif"]) == (name, ["bridge=br-1.2"])
    assert (tmp_path / settings["kernel"]).samefile(image)


def test_comments_are_none_of_the_settings(tmp_path: Path) -> None:
    network = Network(mode="static", address="10.0.0.2/24", gateway="10.0.0.1")
    image = pvh_image(tmp_path / "a.elf", network=network, ports=[(80, 8080, "tcp"), (53, 53, "udp")])
    assert _settings(image)["type"] == "pvh"
    assert "# It listens on 80/tcp, 53/udp at its own address" in image.with_name("a.xl.cfg").read_text()


@pytest.mark.parametrize("text", ['name = "a', "name = a", "vif = ['a'", "name = 'a\\q'", "= 1", "NAME = 1"])
def test_the_parser_refuses_what_is_no_configuration(tmp_path: Path, text: str) -> None:
    config = tmp_path / "x.cfg"
    config.write_text(f"{text}\n")
    with pytest.raises(ValueError, match="config parsing error|lexical|syntax error|invalid character"):
        xl_settings(config)


def test_the_manual_has_the_keys_that_it_is_known_for() -> None:
    assert {"kernel", "cmdline", "vif", "on_crash", "disk", "uuid"} <= xl_keys()
    assert "kernels" not in xl_keys()
    assert {"bridge", "mac", "script"} <= vif_keys()
