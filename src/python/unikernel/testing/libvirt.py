"""libvirt's schema of a domain (RELAX NG), and libvirt itself, from Debian's packages."""

from __future__ import annotations

import functools
import subprocess
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from lxml import etree

from unikernel.testing.debian_package import extracted

# Where libvirt0 has the schema, and not yet another package.
_RELEASE = "bookworm"
_PACKAGES = ("libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt0")
# libvirt looks for its own files below /usr, and for a user of its own: both are there for this process and its children only.
_IN_ITS_OWN_MOUNTS = """
mount -t overlay -o "lowerdir=$1/usr:/usr" overlay /usr
mount --bind "$2/passwd" /etc/passwd
mount --bind "$2/group" /etc/group
exec virt-qemu-run "--root=$2/root" "$2/domain.xml"
"""
# What libvirt logs when a machine has ended by itself.
_END = "shutting down, reason=shutdown"
_PATIENCE_SECONDS = 120
_CONFIGURATION = """
user = "root"
group = "root"
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
"""


def domain_complaint(document: str) -> str:
    """What is wrong with a domain; empty for a valid one."""
    domain = etree.fromstring(document.encode())
    schema = _schema()
    return "" if schema.validate(domain) else str(schema.error_log)


@functools.cache
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(str(extracted("libvirt0", release=_RELEASE) / "usr/share/libvirt/schemas/domain.rng")))


def boot_domain(document: str, image: Path) -> str:
    """Has libvirt run the domain until its image ends it, without its daemon (virt-qemu-run(1)); returns the console. Takes root.

    What this machine may not have is replaced: KVM, libvirt's networks, and the image where it is to be. The console goes to a file.
    """
    # libvirt has a socket in it, and the path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="libvirt-") as scratch:
        return _boot(ElementTree.fromstring(document), image, Path(scratch))


def _boot(domain: Element, image: Path, scratch: Path) -> str:
    domain.set("type", "qemu")
    _find(domain, "cpu").set("mode", "maximum")
    _find(domain, "os/kernel").text = str(image)
    for interface in domain.iter("interface"):
        interface.set("type", "user")
        interface.remove(_find(interface, "source"))
    console = scratch / "console"
    for device in (_find(domain, "devices/serial"), _find(domain, "devices/console")):
        device.set("type", "file")
        SubElement(device, "source", path=str(console))
    (scratch / "domain.xml").write_text(ElementTree.tostring(domain, encoding="unicode"))
    (scratch / "root/etc").mkdir(parents=True)
    (scratch / "root/etc/qemu.conf").write_text(_CONFIGURATION)
    for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin"), ("group", "libvirt-qemu:x:64055:")):
        (scratch / name).write_text(Path("/etc", name).read_text() + f"{line}\n")
    files = extracted(*_PACKAGES, release=_RELEASE, dependencies=True)
    command = ["unshare", "--mount", "sh", "-ec", _IN_ITS_OWN_MOUNTS, "sh", str(files), str(scratch)]
    printed, log = scratch / "printed", scratch / f"root/log/qemu/{domain.findtext('name')}.log"
    with printed.open("w") as stream, subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT) as process:
        # It stays when the machine has ended. It ends a machine that has not.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while process.poll() is None and time.monotonic() < deadline and _END not in _content(log):
            time.sleep(0.2)
        ended = _END in _content(log)
        process.terminate()
    assert ended, printed.read_text() + _content(log)
    return console.read_text()


def _content(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _find(parent: Element, path: str) -> Element:
    found = parent.find(path)
    assert found is not None, path
    return found
