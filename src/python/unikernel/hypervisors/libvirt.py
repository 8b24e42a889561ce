"""libvirt's domain, for `virsh create` or `virsh define`: https://libvirt.org/formatdomain.html. It takes absolute paths only."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from unikernel.hypervisors import HYPERVISORS
from unikernel.hypervisors.machine import Machine, notes

# As `unikernel run` forwards them.
_HOST = "127.0.0.1"


def configuration(machine: Machine) -> str:
    domain = Element("domain", type="kvm")
    _text(domain, "name", machine.name)
    _text(domain, "memory", str(machine.memory), unit="MiB")
    _text(domain, "vcpu", str(machine.cpus))
    system = SubElement(domain, "os")
    _text(system, "type", "hvm", arch=machine.architecture, machine=machine.qemu_machine)
    _text(system, "kernel", machine.image)
    if machine.command_line:
        _text(system, "cmdline", machine.command_line)
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    SubElement(domain, "cpu", mode="host-passthrough")
    # The image ends when its application does, by whatever way its kernel has.
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        _text(domain, event, "destroy")
    _add_devices(domain, machine)
    ElementTree.indent(domain)
    lines = [
        f"It expects the image at {machine.image}; libvirt takes absolute paths only.",
        *notes(machine, HYPERVISORS["libvirt"]),
    ]
    # Two hyphens end a comment, and a path can have them.
    comments = [f"<!-- {_escaped(line)} -->\n" for line in lines]
    return "".join([*comments, ElementTree.tostring(domain, encoding="unicode"), "\n"])


def _add_devices(domain: Element, machine: Machine) -> None:
    devices = SubElement(domain, "devices")
    # What libvirt would add, and an image has no driver for.
    SubElement(devices, "controller", type="usb", model="none")
    if machine.has_network:
        _add_interface(devices, machine)
    serial = SubElement(devices, "serial", type="pty")
    SubElement(serial, "target", port="0")
    console = SubElement(devices, "console", type="pty")
    SubElement(console, "target", type="serial", port="0")
    SubElement(SubElement(devices, "video"), "model", type="none")
    SubElement(devices, "memballoon", model="none")


def _add_interface(devices: Element, machine: Machine) -> None:
    if not machine.forwards_ports:
        interface = SubElement(devices, "interface", type="network")
        SubElement(interface, "source", network=machine.attachment)
        SubElement(interface, "model", type="virtio")
        return
    interface = SubElement(devices, "interface", type="user")
    SubElement(interface, "backend", type="passt")
    if machine.address:
        ip, _, prefix = machine.address.partition("/")
        SubElement(interface, "ip", family="ipv4", address=ip, prefix=prefix)
    SubElement(interface, "model", type="virtio")
    for protocol in sorted({port.protocol for port in machine.ports}):
        forward = SubElement(interface, "portForward", proto=protocol, address=_HOST)
        for port in machine.ports:
            if port.protocol == protocol:
                moved = {"to": str(port.guest_port)} if port.guest_port != port.host_port else {}
                SubElement(forward, "range", {"start": str(port.host_port), **moved})


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    SubElement(parent, tag, attributes).text = text


def _escaped(text: str) -> str:
    return re.sub("-(?=-)", "- ", text)
