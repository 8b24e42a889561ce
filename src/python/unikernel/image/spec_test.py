from __future__ import annotations

from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.spec import ImageSpec, Network, Port, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("67108864", 64 << 20),
        ("64M", 64 << 20),
        ("64MiB", 64 << 20),
        ("64mb", 64 << 20),
        (" 1 G ", 1 << 30),
        ("512k", 512 << 10),
        ("1B", 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "0", "0M", "-64M", "1.5G", "64 X", "64MM", "64i", "1T", "0x10"])
def test_bad_sizes_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no amount of memory") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


def test_sizes_are_rounded_up_for_people() -> None:
    assert (format_size(1), format_size(64 << 20), format_size((64 << 20) + 1)) == ("1 MiB", "64 MiB", "65 MiB")


@pytest.mark.parametrize(
    ("text", "port", "shown"),
    [
        ("8080", Port(8080, 8080, "tcp"), "8080:8080/tcp"),
        ("8080:80", Port(80, 8080, "tcp"), "8080:80/tcp"),
        ("53/udp", Port(53, 53, "udp"), "53:53/udp"),
        ("5353:53/UDP", Port(53, 5353, "udp"), "5353:53/udp"),
        ("1:65535/tcp", Port(65535, 1, "tcp"), "1:65535/tcp"),
    ],
)
def test_ports(text: str, port: Port, shown: str) -> None:
    assert Port.parse(text) == port
    assert str(port) == shown
    assert Port.parse(str(port)) == port


@pytest.mark.parametrize("text", ["", "0", "65536", "80:0", "80:", ":80", "80:80:80", "http", "80/sctp", "-1", "80/tcp/udp", "8 0"])
def test_bad_ports_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is no port; write it as") as caught:
        Port.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "network",
    [
        Network(),
        Network("none"),
        Network("dhcp", nameservers=("1.1.1.1", "8.8.8.8", "9.9.9.9"), hostname="a-b.example"),
        Network("static", "10.0.2.15/24"),
        Network("static", "10.0.2.15/24", "10.0.2.2"),
        Network("static", "10.0.0.0/31", "10.0.0.1"),
        Network("static", "192.0.2.1/32"),
        Network(hostname="h" * 63),
    ],
)
def test_good_networks(network: Network) -> None:
    network.validate()


@pytest.mark.parametrize(
    ("network", "setting", "part"),
    [
        (Network("bridge"), "network", "'bridge' is none of dhcp, static, none"),
        (Network("static"), "address", "''"),
        (Network("static", "10.0.2.15"), "address", "with the length of its prefix"),
        (Network("static", "10.0.2.15/33"), "address", "'10.0.2.15/33'"),
        (Network("static", "10.0.2.15/255.255.255.0"), "address", "with the length of its prefix"),
        (Network("static", "10.0.2/24"), "address", "'10.0.2/24'"),
        (Network("static", "fd00::1/64"), "address", "no IPv4 address"),
        (Network("static", "10.0.2.0/24"), "address", "not a host's address in 10.0.2.0/24"),
        (Network("static", "10.0.2.255/24"), "address", "10.0.2.255 is not a host's address"),
        (Network("static", "127.0.0.1/8"), "address", "not the address of a host"),
        (Network("static", "224.0.0.1/8"), "address", "not the address of a host"),
        (Network("static", "10.0.2.15/0"), "address", "not the address of a host"),
        (Network("static", "10.0.2.15/24", "10.0.3.1"), "gateway", "10.0.3.1 is not in 10.0.2.0/24"),
        (Network("static", "10.0.2.15/24", "10.0.2.15"), "gateway", "own address"),
        (Network("static", "10.0.2.15/24", "router"), "gateway", "'router' is no IPv4 address"),
        (Network("dhcp", "10.0.2.15/24"), "address", 'only for network="static"'),
        (Network("none", "", "10.0.2.2"), "gateway", 'this is network="none"'),
        (Network(nameservers=("1.1.1.1", "dns.example")), "nameservers", "'dns.example'"),
        (Network(nameservers=("1.1.1.1",) * 4), "nameservers", "there are 4"),
        (Network(hostname="under_score"), "hostname", "'under_score'"),
        (Network(hostname="-a"), "hostname", "'-a'"),
        (Network(hostname="a..b"), "hostname", "'a..b'"),
        (Network(hostname="a\n"), "hostname", "no host name"),
        (Network(hostname="h" * 64), "hostname", "no host name"),
        (Network(hostname=".".join(["abc"] * 17)), "hostname", "no host name"),
    ],
)
def test_a_bad_network_setting_is_named_first(network: Network, setting: str, part: str) -> None:
    with pytest.raises(ValueError) as caught:
        network.validate()
    assert str(caught.value).startswith(f"{setting}: ")
    assert part in str(caught.value)


def test_a_spec_survives_a_round_trip(tmp_path: Path) -> None:
    spec = ImageSpec(
        name="greeter",
        target="src:greeter",
        memory=64 << 20,
        cpus=2,
        network=Network("static", "10.0.2.15/24", "10.0.2.2", ("1.1.1.1",), "host"),
        ports=(Port(80, 8080), Port(53, 53, "udp")),
        arguments=("--flag", ""),
        environment={"A": "1"},
        timezone="Europe/Paris",
        kernel_parameters=("loglevel=7",),
        inputs={"x": "00"},
        tools={"ld": "2.40"},
    )
    (tmp_path / "spec.json").write_text(spec.to_json())
    assert ImageSpec.read(tmp_path / "spec.json") == spec
    (tmp_path / "spec.json").write_text('{"name": "least"}')
    assert ImageSpec.read(tmp_path / "spec.json") == ImageSpec("least")


@pytest.mark.parametrize(
    ("document", "part"),
    [
        ('{"name": "a", "colour": "red"}', "colour"),
        ("{}", "name"),
        ("[]", "does not describe an image"),
        ("{", "does not describe an image"),
        ('{"name": "a", "network": {"mode": "static", "address": "10.0.2.15"}}', "address: '10.0.2.15'"),
        ('{"name": "a", "ports": [{"guest": 1}]}', "guest"),
    ],
)
def test_a_document_that_is_no_spec_is_named(tmp_path: Path, document: str, part: str) -> None:
    (tmp_path / "spec.json").write_text(document)
    with pytest.raises(UnikernelError, match=r"spec\.json does not describe an image: .") as caught:
        ImageSpec.read(tmp_path / "spec.json")
    assert part in str(caught.value)


def test_the_host_name_is_the_declared_one_or_the_images_name() -> None:
    assert ImageSpec("image", network=Network(hostname="host")).hostname == "host"
    assert ImageSpec("image").hostname == "image"
    assert ImageSpec("i" * 100).hostname == "i" * 64
