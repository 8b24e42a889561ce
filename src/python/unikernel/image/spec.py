"""What an image is to be: the one document that a build system, or a person, hands to `unikernel image link`."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unikernel.errors import UnikernelError

# What a program gets that is told no PATH: by our PID 1, and by Docker (oci.DefaultPathEnv).
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NETWORK_MODES = ("dhcp", "static", "none")
PROTOCOLS = ("tcp", "udp")
# sethostname(2)
LONGEST_HOSTNAME = 64
# resolv.conf(5)
_MOST_NAMESERVERS = 3
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_SIZE = re.compile(r"(\d+)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)
_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


def parse_size(text: str) -> int:
    """Bytes from "64M", "64MiB", "1 G" or "67108864"; units are powers of 1024. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise ValueError(f'{text!r} is no amount of memory; write it as "64M", "512MiB" or "2G"')
    return int(match[1]) * _UNITS[match[2].upper()]


def format_size(size: int) -> str:
    return f"{-(-size // 2**20)} MiB"


@dataclass(frozen=True)
class Port:
    guest_port: int
    host_port: int
    protocol: str = "tcp"

    @classmethod
    def parse(cls, text: str) -> Port:
        """From "8080", "8080:80" (host's and guest's) or either with "/udp". Raises ValueError."""
        numbers, _, protocol = text.partition("/")
        host, colon, guest = numbers.partition(":")
        try:
            port = cls(int(guest if colon else host), int(host), protocol.lower() or "tcp")
        except ValueError:
            port = cls(0, 0)
        if port.protocol not in PROTOCOLS or not (0 < port.guest_port < 65536 and 0 < port.host_port < 65536):
            raise ValueError(f'{text!r} is no port; write it as "8080", "8080:80" (the host\'s, then the guest\'s) or "53/udp"')
        return port

    def __str__(self) -> str:
        return f"{self.host_port}:{self.guest_port}/{self.protocol}"


@dataclass(frozen=True)
class Network:
    """`address` has the length of its prefix ("10.0.2.15/24")."""

    mode: str = "dhcp"
    address: str = ""
    gateway: str = ""
    nameservers: tuple[str, ...] = ()
    hostname: str = ""

    def validate(self) -> None:
        """Raises ValueError with the name of the offending setting first."""
        if self.mode not in NETWORK_MODES:
            raise ValueError(f"network: {self.mode!r} is none of {', '.join(NETWORK_MODES)}")
        if self.mode == "static":
            self._validate_static()
        elif self.address or self.gateway:
            name = "address" if self.address else "gateway"
            raise ValueError(f'{name}: is only for network="static", and this is network="{self.mode}"')
        for nameserver in self.nameservers:
            _ipv4(nameserver, "nameservers")
        if len(self.nameservers) > _MOST_NAMESERVERS:
            raise ValueError(f"nameservers: there are {len(self.nameservers)}, and a resolver asks at most {_MOST_NAMESERVERS}")
        if self.hostname and (len(self.hostname) > LONGEST_HOSTNAME or not _HOSTNAME.fullmatch(self.hostname)):
            raise ValueError(f"hostname: {self.hostname!r} is no host name (letters, digits, hyphens and dots)")

    def _validate_static(self) -> None:
        # IPv4Interface takes a netmask too; PID 1 does not.
        if not self.address.partition("/")[2].isdecimal():
            raise ValueError(
                f'address: {self.address!r} is no IPv4 address with the length of its prefix; write it as "10.0.2.15/24"'
            )
        try:
            interface = ipaddress.IPv4Interface(self.address)
        except ValueError as error:
            raise ValueError(f"address: {self.address!r} is no IPv4 address with the length of its prefix ({error})") from None
        network = interface.network
        if network.prefixlen < 31 and interface.ip in (network.network_address, network.broadcast_address):
            raise ValueError(f"address: {interface.ip} is not a host's address in {network}")
        if not _is_host(interface.ip) or network.prefixlen == 0:
            raise ValueError(f"address: {self.address} is not the address of a host")
        if not self.gateway:
            return
        gateway = _ipv4(self.gateway, "gateway")
        if gateway == interface.ip:
            raise ValueError(f"gateway: {self.gateway} is the image's own address")
        if gateway not in network or not _is_host(gateway):
            raise ValueError(f"gateway: {self.gateway} is not in {network}, the network of the address {self.address}")


def _is_host(address: ipaddress.IPv4Address) -> bool:
    """As PID 1 sees it: neither "this network", nor the loopback, nor multicast or reserved."""
    return 0 < int(address) >> 24 < 224 and not address.is_loopback


def _ipv4(text: str, name: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f'{name}: {text!r} is no IPv4 address; write it as "10.0.2.2"') from None


@dataclass(frozen=True)
class ImageSpec:
    """`memory` is in bytes; None lets the link step choose. `inputs` are further inputs for the manifest: name -> SHA-256 (hex).

    `environment` is merged over what the application's layer asks for; `arguments` are appended to its command. What is left open
    (`ports`, `arguments`, `working_directory`, `user`) is as the application's layer says: see image/layers.py. `user` is a name or
    number, with a group after a colon, if need be ("1000", "1000:1000", "app", "app:staff").
    """

    name: str
    target: str = ""
    machine: str = "x86_64"
    library_os: str = "linux"
    memory: int | None = None
    cpus: int = 1
    network: Network = field(default_factory=Network)
    ports: tuple[Port, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str | None = None
    user: str = ""
    timezone: str | None = None
    kernel_parameters: tuple[str, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)

    @property
    def hostname(self) -> str:
        """The declared one, or the image's name, which may be longer than a host's can be."""
        return self.network.hostname or self.name[:LONGEST_HOSTNAME]

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> ImageSpec:
        try:
            document: dict[str, Any] = json.loads(path.read_text())
            network: dict[str, Any] = document.pop("network", {})
            network["nameservers"] = tuple(network.get("nameservers", ()))
            spec = cls(
                network=Network(**network),
                ports=tuple(Port(**port) for port in document.pop("ports", ())),
                arguments=tuple(document.pop("arguments", ())),
                kernel_parameters=tuple(document.pop("kernel_parameters", ())),
                **document,
            )
            spec.network.validate()
            return spec
        except (AttributeError, TypeError, ValueError) as error:
            raise UnikernelError(f"{path} does not describe an image: {error}.") from error
