"""The virtual machine that an image is to be run on: what all configurations are made of."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unikernel.elf import is_elf, loaded_notes
from unikernel.errors import UnikernelError
from unikernel.hypervisors import HYPERVISORS, Hypervisor
from unikernel.hypervisors.support import check_cpus, check_options, supported
from unikernel.image.manifest_pb2 import Manifest
from unikernel.image.spec import NETWORK_MODES, PROTOCOLS, Port
from unikernel.library_os import library_os_of
from unikernel.library_os.command_line import render_command_line
from unikernel.library_os.description import HypervisorSupport, LibraryOs

# xen/include/public/elfnote.h: the notes of kernels that boot by PVH, Xen's or not. XEN_ELFNOTE_PHYS32_ENTRY is the entry.
_OWNER, _PVH_ENTRY = "Xen", 18
_MEBIBYTE = 2**20
# What a configuration has no way to write down, or a shell, a terminal or XML another meaning for.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
# A network interface's name (Linux: dev_valid_name) is that and no longer.
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_NETWORK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Choices:
    """What a user says beside the image. `name` is the machine's, `image_path` the image's where it is booted, and `attachment` what its
    network card is attached to there; empty ones are chosen.
    """

    name: str = ""
    image_path: str = ""
    attachment: str = ""


@dataclass(frozen=True)
class Machine:
    """`image` is the image's path as the configuration names it, and `memory` is in MiB. `address` has the length of its prefix; without
    one, the image asks for it (DHCP). `forwards_ports` tells that the attachment is what forwards them. `qemu_machine` is for libvirt.
    """

    name: str
    image: str
    architecture: str
    memory: int
    cpus: int
    command_line: str
    has_network: bool
    attachment: str = ""
    forwards_ports: bool = False
    address: str = ""
    gateway: str = ""
    ports: Sequence[Port] = ()
    qemu_machine: str = ""


def machine_of(image: Path, manifest: Manifest, hypervisor: str, output: Path, choices: Choices) -> Machine:
    """`output` is where the configuration will be. Raises UnikernelError for what the hypervisor cannot do for the image."""
    library_os, about = library_os_of(manifest), HYPERVISORS[hypervisor]
    support = supported(library_os, hypervisor)
    cpus = manifest.cpus or 1
    _check_image(image, about)
    check_cpus(cpus, hypervisor, str(image))
    try:
        check_options({f"CONFIG_{option}" for option in manifest.library_os.config}, support, cpus, about)
    except UnikernelError as error:
        raise UnikernelError(f"{about.title} does not boot {image}: {error}") from error
    if not manifest.memory_bytes:
        raise UnikernelError(f"{image} does not say how much memory it is to have.")
    network = manifest.network
    if network.mode not in NETWORK_MODES:
        raise UnikernelError(f"{image} has the network {network.mode!r}, which is none of {', '.join(NETWORK_MODES)}.")
    name = choices.name or _default_name(manifest)
    _check_name(name)
    has_network = network.mode != "none"
    address, gateway = _static_network(image, manifest)
    attachment = _attachment(choices.attachment, about) if has_network else ""
    return Machine(
        name=name,
        image=_given_path(choices.image_path, about) if choices.image_path else _image_path(image, output, about, name),
        architecture=manifest.architecture,
        memory=-(-manifest.memory_bytes // _MEBIBYTE),
        cpus=cpus,
        command_line=_command_line(library_os, manifest, support),
        has_network=has_network,
        attachment=attachment,
        forwards_ports=bool(attachment) and attachment == about.forwarder,
        address=address,
        gateway=gateway,
        ports=_ports(image, manifest) if has_network else (),
        qemu_machine=support.machine,
    )


def _check_image(image: Path, about: Hypervisor) -> None:
    types = loaded_notes(image, _OWNER) if is_elf(image) else set()
    if _PVH_ENTRY not in types:
        raise UnikernelError(f"{about.title} does not boot {image}: it is no ELF file with an entry for PVH.")


def _default_name(manifest: Manifest) -> str:
    """The directory of the target and the image's name: a host has many machines, and an image is often called `unikernel`."""
    directory = manifest.target.partition(":")[0].rpartition("/")[2]
    words = [directory, *([manifest.name] if manifest.name != directory else [])]
    name = re.sub(rf"/|{_CONTROL.pattern}", "-", "-".join(word for word in words if word)).strip()
    return f"unikernel-{name}" if not name.strip("0123456789") else name


def _check_name(name: str) -> None:
    """As libvirt and xl take them: those take a number for a machine's identifier."""
    if _CONTROL.search(name) or "/" in name or not name.strip(" 0123456789"):
        raise UnikernelError(
            f"{name!r} is no name of a machine: it has something other than digits, and neither slashes nor control characters."
        )


def _image_path(image: Path, output: Path, about: Hypervisor, name: str) -> str:
    if about.directory:
        return f"{about.directory}/{name}{image.suffix}"
    return _plain_path(os.path.relpath(image.absolute(), output.absolute().parent))


def _given_path(path: str, about: Hypervisor) -> str:
    if about.directory and not os.path.isabs(path):
        raise UnikernelError(f"{about.title} takes absolute paths only, and {path!r} is none.")
    return _plain_path(path)


def _plain_path(path: str) -> str:
    if _CONTROL.search(path):
        raise UnikernelError(f"The image's path {path!r} has characters that no configuration can name: rename it.")
    return f"./{path}" if path.startswith("-") else path


def _attachment(given: str, about: Hypervisor) -> str:
    attachment = given or about.default_attachment
    pattern = _NETWORK if about.directory else _INTERFACE
    if not pattern.fullmatch(attachment):
        raise UnikernelError(f"{attachment!r} is no name of a {about.attachment}: it has letters, digits, '_', '.' and '-'.")
    return attachment


def _command_line(library_os: LibraryOs, manifest: Manifest, support: HypervisorSupport) -> str:
    """What the image does not have in it, after what the hypervisor takes."""
    start, is_in_image = manifest.start, library_os.command_line.in_image
    own = render_command_line(
        library_os,
        start.program,
        [] if is_in_image else list(start.arguments[1:]),
        {} if is_in_image else dict(variable.split("=", 1) for variable in start.environment),
        manifest.network,
        () if is_in_image else manifest.command_line.split(),
    )
    text = " ".join(words for words in (support.append, own) if words)
    if _CONTROL.search(text):
        raise UnikernelError(f"The command line {text!r} has characters that no configuration can name.")
    return text


def _static_network(image: Path, manifest: Manifest) -> tuple[str, str]:
    """Address and gateway, which go into comments and options: nothing but addresses."""
    network = manifest.network
    if network.mode != "static":
        return "", ""
    try:
        address = ipaddress.IPv4Interface(network.address)
        gateway = str(ipaddress.IPv4Address(network.gateway)) if network.gateway else ""
    except ValueError as error:
        raise UnikernelError(f"The manifest of {image} has a network that is none: {error}.") from error
    return str(address), gateway


def _ports(image: Path, manifest: Manifest) -> list[Port]:
    ports = [Port(port.guest_port, port.host_port, port.protocol) for port in manifest.ports]
    for port in ports:
        if port.protocol not in PROTOCOLS or not (0 < port.guest_port < 65536 and 0 < port.host_port < 65536):
            raise UnikernelError(f"The manifest of {image} has a port that is none: {port}.")
    return ports


def notes(machine: Machine, about: Hypervisor) -> list[str]:
    """What a user of the configuration has to know: lines for comments, without anything that is not ours or a name of this module's."""
    lines = []
    if machine.has_network and not machine.forwards_ports:
        lines.append(f"Its network card is attached to the {about.attachment} {machine.attachment}, which has to be there.")
    if machine.address:
        gateway = f", and its gateway at {machine.gateway}" if machine.gateway else ""
        lines.append(f"It has the address {machine.address}{gateway}.")
    elif machine.has_network:
        lines.append("It asks for its address by DHCP.")
    if machine.ports and not machine.forwards_ports:
        listening = ", ".join(f"{port.guest_port}/{port.protocol}" for port in machine.ports)
        lines.append(f"It listens on {listening} at its own address: no port of the host is forwarded.")
    return [*lines, *warnings(machine, about)]


def warnings(machine: Machine, about: Hypervisor) -> list[str]:
    """Of what was declared, what the machine will not do."""
    lines = []
    moved = [port for port in machine.ports if port.guest_port != port.host_port]
    if moved and not machine.forwards_ports:
        forwards = ", ".join(f"{port.host_port} to {port.guest_port}/{port.protocol}" for port in moved)
        lines.append(f"{about.title} forwards no ports: what the image declares ({forwards}) takes a rule of the host's.")
    return lines
