"""Held against libvirt's own schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from unikernel.errors import UnikernelError
from unikernel.hypervisors.configuration import write_configuration
from unikernel.hypervisors.machine import Choices
from unikernel.image.manifest_pb2 import LibraryOs, Network
from unikernel.testing.hypervisors import pvh_image
from unikernel.testing.libvirt import domain_complaint


def _domain(image: Path, **choices: Any) -> Element:
    output = write_configuration(image, "libvirt", choices=Choices(**choices))
    assert output == image.with_name(image.stem + ".libvirt.xml")
    text = output.read_text(encoding="utf-8")
    assert domain_complaint(text) == ""
    return ElementTree.fromstring(text)


def test_a_domain_says_what_the_image_declares(tmp_path: Path) -> None:
    domain = _domain(pvh_image(tmp_path / "unikernel.elf", memory_bytes=(64 << 20) + 1, ports=[(80, 8080, "tcp"), (53, 53, "udp")]))
    assert domain.attrib == {"type": "kvm"}
    assert domain.findtext("name") == "hello-unikernel"
    memory = domain.find("memory")
    assert memory is not None and (memory.text, memory.attrib) == ("65", {"unit": "MiB"})
    assert (domain.findtext("vcpu"), domain.find("os/cmdline")) == ("1", None)
    kind = domain.find("os/type")
    assert kind is not None and (kind.text, kind.attrib) == ("hvm", {"arch": "x86_64", "machine": "q35"})
    assert domain.findtext("os/kernel") == "/var/lib/libvirt/images/hello-unikernel.elf"
    assert {event: domain.findtext(event) for event in ("on_poweroff", "on_reboot", "on_crash")} == dict.fromkeys(
        ("on_poweroff", "on_reboot", "on_crash"), "destroy"
    )


def test_by_default_a_card_is_attached_to_the_network_that_libvirt_comes_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = _domain(pvh_image(tmp_path / "a.elf", ports=[(80, 8080, "tcp")]))
    assert [interface.attrib for interface in domain.iter("interface")] == [{"type": "network"}]
    assert [source.attrib for source in domain.iter("source")] == [{"network": "default"}]
    assert _forwards(domain) == []
    assert "libvirt forwards no ports: what the image declares (8080 to 80/tcp)" in capsys.readouterr().err


def _forwards(domain: Element) -> list[tuple[dict[str, str], list[dict[str, str]]]]:
    return [(forward.attrib, [part.attrib for part in forward]) for forward in domain.iter("portForward")]


def test_passt_forwards_ports_as_unikernel_run_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pvh_image(tmp_path / "a.elf", ports=[(80, 8080, "tcp"), (53, 53, "udp"), (443, 443, "tcp")])
    domain = _domain(image, attachment="passt")
    assert capsys.readouterr().err == ""
    assert [interface.attrib for interface in domain.iter("interface")] == [{"type": "user"}]
    assert _forwards(domain) == [
        ({"proto": "tcp", "address": "127.0.0.1"}, [{"start": "8080", "to": "80"}, {"start": "443"}]),
        ({"proto": "udp", "address": "127.0.0.1"}, [{"start": "53"}]),
    ]


def test_a_static_address_is_the_one_that_ports_are_forwarded_to(tmp_path: Path) -> None:
    domain = _domain(
        pvh_image(tmp_path / "a.elf", network=Network(mode="static", address="10.0.0.2/24", gateway="10.0.0.1")), attachment="passt"
    )
    assert [address.attrib for address in domain.iter("ip")] == [{"family": "ipv4", "address": "10.0.0.2", "prefix": "24"}]


def test_a_user_names_another_network(tmp_path: Path) -> None:
    domain = _domain(pvh_image(tmp_path / "a.elf"), attachment="a-network-of-machines.1")
    assert [source.attrib for source in domain.iter("source")] == [{"network": "a-network-of-machines.1"}]


def test_an_image_without_a_network_has_no_card(tmp_path: Path) -> None:
    image = pvh_image(tmp_path / "a.elf", network=Network(mode="none"), ports=[(80, 80, "tcp")])
    assert list(_domain(image).iter("interface")) == []


@pytest.mark.parametrize("name", ["a b", "a,b='c'&<é>]]>", 'say "hi"', "-- a ---> b --", "back\\slash", "&amp;", "-"])
def test_any_name_and_path_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    domain = _domain(pvh_image(tmp_path / "a.elf"), name=name, image_path=f"/srv/{name}/{name}.elf")
    assert (domain.findtext("name"), domain.findtext("os/kernel")) == (name, f"/srv/{name}/{name}.elf")


def test_several_cpus_take_a_kernel_that_finds_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _domain(pvh_image(tmp_path / "a.elf", cpus=2)).findtext("vcpu") == "2"
    assert capsys.readouterr().err == ""
    image = pvh_image(tmp_path / "b.elf", cpus=2, library_os=LibraryOs(name="linux", config=["NET=y"]))
    with pytest.raises(
        UnikernelError, match=r'would find only one of 2 CPUs there; build it with kernel_config=\["CONFIG_ACPI=y"\]'
    ):
        _domain(image)


def test_the_schema_refuses_what_libvirt_would(tmp_path: Path) -> None:
    write_configuration(pvh_image(tmp_path / "a.elf"), "libvirt", choices=Choices(attachment="passt"))
    text = (tmp_path / "a.libvirt.xml").read_text()
    for written, instead in (
        ("<kernel>/var", "<kernel>var"),
        ('backend type="passt"', 'backend type="tap"'),
        ("<vcpu>1<", "<vcpu>one<"),
        ("<on_crash>destroy<", "<on_crash>stop<"),
        ("features>", "feature>"),
    ):
        assert written in text
        assert domain_complaint(text.replace(written, instead))
