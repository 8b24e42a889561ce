from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from unikernel.cli import main
from unikernel.errors import UnikernelError
from unikernel.hypervisors import HYPERVISORS
from unikernel.hypervisors.configuration import _WRITERS, write_configuration
from unikernel.hypervisors.machine import Choices, Machine, machine_of
from unikernel.image.manifest import read_manifest
from unikernel.image.manifest_pb2 import LibraryOs, Manifest, Network, Start
from unikernel.library_os import description as library_os_description
from unikernel.library_os import find_library_os, library_os_names
from unikernel.library_os.reader import read_library_os
from unikernel.testing.hypervisors import pvh_image
from unikernel.testing.images import image_with_note


def _machine(image: Path, hypervisor: str = "firecracker", output: Path | None = None, **choices: Any) -> Machine:
    return machine_of(image, read_manifest(image), hypervisor, output or image, Choices(**choices))


def test_one_table_knows_all_hypervisors() -> None:
    assert HYPERVISORS.keys() == _WRITERS.keys() == set(library_os_description.HYPERVISORS)
    assert len({about.ending for about in HYPERVISORS.values()}) == len(HYPERVISORS)


@pytest.mark.parametrize("hypervisor", sorted(HYPERVISORS))
def test_the_same_image_has_the_same_configuration_wherever_it_is(tmp_path: Path, hypervisor: str) -> None:
    contents = set()
    for place in ("one", "another/place"):
        directory = tmp_path / place
        directory.mkdir(parents=True)
        image = pvh_image(directory / "unikernel.elf", ports=[(80, 80, "tcp")])
        contents.add(write_configuration(image, hypervisor).read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize("hypervisor", sorted(HYPERVISORS))
def test_a_kernel_without_pvh_is_refused(tmp_path: Path, hypervisor: str) -> None:
    with pytest.raises(
        UnikernelError, match=f"^{HYPERVISORS[hypervisor].title} does not boot .*: it is no ELF file with an entry for PVH"
    ):
        write_configuration(pvh_image(tmp_path / "a.elf", notes=()), hypervisor)
    assert sorted(os.listdir(tmp_path)) == [".a.elf.parts", "a.elf"]


def test_a_kernel_that_knows_nothing_of_xen_is_refused_by_xl_only(tmp_path: Path) -> None:
    image = pvh_image(tmp_path / "a.elf", library_os=LibraryOs(name="linux", config=["ACPI=y", "XEN=y"]))
    message = (
        r'its kernel knows nothing of Xen; build it with kernel_config=\["CONFIG_HVC_XEN=y", "CONFIG_XEN_NETDEV_FRONTEND=y", "C'
    )
    with pytest.raises(UnikernelError, match=f"Xen does not boot .*: {message}"):
        write_configuration(image, "xl")
    for hypervisor in HYPERVISORS.keys() - {"xl"}:
        assert write_configuration(image, hypervisor).exists()


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.elf").write_bytes(b"nothing")
    with pytest.raises(UnikernelError, match="a.elf is no unikernel image"):
        write_configuration(tmp_path / "a.elf", "xl")


@pytest.mark.parametrize("name", sorted(set(library_os_names()) - {"linux"}))
def test_a_library_os_that_no_hypervisor_boots_is_refused(tmp_path: Path, name: str) -> None:
    assert not find_library_os(name).hypervisors
    image = pvh_image(tmp_path / "a.elf", library_os=LibraryOs(name=name))
    with pytest.raises(
        UnikernelError, match=f"^Firecracker does not boot images of {name}: its description says by what they are booted"
    ):
        write_configuration(image, "firecracker")


_MINE = """\
name: mine
title: Mine
license: MIT
architecture: x86_64
tried: no
published: nowhere
takes:
  - static
embed:
  kit: linux
command_line:
  form: '{program} {arguments} {environment} {parameters}'
  quoting: double-quotes
  in_image: no
  environment: '{words}'
hypervisors:
  firecracker:
    append: quiet
boot:
  memory: 16M
  elsewhere: Firecracker
exit:
  report: none
"""


def test_an_image_without_its_command_line_in_it_gets_all_of_it(tmp_path: Path) -> None:
    start = Start(program="/app", arguments=["/app", "a b", "c"], environment=["A=1 2"])
    image = pvh_image(
        tmp_path / "a.elf", library_os=LibraryOs(name="mine", description=_MINE), start=start, command_line="debug x=1"
    )
    assert _machine(image).command_line == 'quiet /app "a b" "c" "A=1 2" debug x=1'
    with pytest.raises(UnikernelError, match="^libvirt does not boot images of mine, only firecracker does: its description says"):
        _machine(image, "libvirt")


@pytest.mark.parametrize(
    ("target", "name", "expected"),
    [
        ("src/services/hello:unikernel", "unikernel", "hello-unikernel"),
        ("src/services/hello:hello", "hello", "hello"),
        ("//:unikernel", "unikernel", "unikernel"),
        ("src/a b:x", "x", "a b-x"),
        ("src/a@p=q:x", "x", "a@p=q-x"),
        ("", "name, with 'all' <&\" of it/\n", "name, with 'all' <&\" of it--"),
        ("", "42", "unikernel-42"),
        ("", "", "unikernel-"),
    ],
)
def test_a_machine_is_named_after_the_target(tmp_path: Path, target: str, name: str, expected: str) -> None:
    assert _machine(pvh_image(tmp_path / "a.elf", target=target, name=name)).name == expected


@pytest.mark.parametrize("name", ["a/b", "a\nb", "12", " ", "a\0", "a\x85"])
def test_a_name_that_no_machine_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnikernelError, match="is no name of a machine"):
        _machine(pvh_image(tmp_path / "a.elf"), name=name)


@pytest.mark.parametrize("attachment", ["a b", "a,b", "a=b", "-a", "a/b", "a\n", "é", "0123456789abcdef", "a'b", "$(id)", "."])
def test_an_attachment_that_is_no_interface_is_refused(tmp_path: Path, attachment: str) -> None:
    image = pvh_image(tmp_path / "a.elf")
    with pytest.raises(UnikernelError, match="is no name of a tap device"):
        _machine(image, attachment=attachment)
    with pytest.raises(UnikernelError, match="is no name of a bridge"):
        _machine(image, "xl", attachment=attachment)


def test_the_image_is_named_from_where_the_configuration_is(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    image = pvh_image(tmp_path / "images/a.elf")
    assert _machine(image, output=tmp_path / "configs/deep/x.json").image == "../../images/a.elf"
    assert _machine(image, "libvirt", output=tmp_path / "x.xml").image == "/var/lib/libvirt/images/hello-unikernel.elf"
    with pytest.raises(UnikernelError, match="libvirt takes absolute paths only, and 'images/a.elf' is none"):
        _machine(image, "libvirt", image_path="images/a.elf")


def test_a_path_that_no_configuration_can_name_is_refused(tmp_path: Path) -> None:
    image = pvh_image(tmp_path / "a.elf")
    for path in ("a\nb", "a\tb", os.fsdecode(b"a\xff")):
        with pytest.raises(UnikernelError, match="has characters that no configuration can name"):
            _machine(image, image_path=path)


@pytest.mark.parametrize(("hypervisor", "most"), [("firecracker", 32), ("xl", 128), ("cloud-hypervisor", 254), ("libvirt", 255)])
def test_more_cpus_than_a_hypervisor_has_are_refused(tmp_path: Path, hypervisor: str, most: int) -> None:
    (tmp_path / "b").mkdir()
    assert _machine(pvh_image(tmp_path / "a.elf", cpus=most), hypervisor).cpus == most
    with pytest.raises(UnikernelError, match=f"is to have {most + 1} CPUs, and .* gives a machine {most} at most"):
        _machine(pvh_image(tmp_path / "b/a.elf", cpus=most + 1), hypervisor)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"memory_bytes": 0}, "does not say how much memory"),
        ({"network": Network(mode="magic")}, "has the network 'magic'"),
        ({"network": Network(mode="static", address="10.0.0.2/24\nid")}, "has a network that is none"),
        ({"network": Network(mode="static", address="10.0.0.2/24", gateway="x\ny")}, "has a network that is none"),
        ({"ports": [(0, 80, "tcp")]}, "has a port that is none"),
        ({"ports": [(80, 80, "tcp\nid")]}, "has a port that is none"),
        ({"ports": [(80, 70000, "udp")]}, "has a port that is none"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, fields: dict[str, Any], error: str) -> None:
    with pytest.raises(UnikernelError, match=error):
        _machine(pvh_image(tmp_path / "a.elf", **fields))


def test_memory_is_rounded_up_to_whole_mebibytes_and_one_cpu_is_the_least(tmp_path: Path) -> None:
    machine = _machine(pvh_image(tmp_path / "a.elf", memory_bytes=1, cpus=0))
    assert (machine.memory, machine.cpus) == (1, 1)


def test_an_image_without_an_owner_in_its_notes_is_refused(tmp_path: Path) -> None:
    manifest = Manifest(schema_version=1, library_os=LibraryOs(name="linux"), memory_bytes=1 << 20)
    image = image_with_note(tmp_path / "a.elf", manifest.SerializeToString())
    with pytest.raises(UnikernelError, match="no ELF file with an entry for PVH"):
        write_configuration(image, "firecracker")


def test_the_command_writes_beside_the_image_or_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pvh_image(tmp_path / "a.b.elf")
    assert main(["hypervisor-config", str(image), "--for=cloud-hypervisor"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.b.cloud-hypervisor.sh'}\n"
    assert os.access(tmp_path / "a.b.cloud-hypervisor.sh", os.X_OK)
    options = ["--for=xl", "-o", str(tmp_path / "x.cfg"), "--name=web 1", "--attach=br0", "--image-path=/srv/web.elf"]
    assert main(["hypervisor-config", str(image), *options]) == 0
    text = (tmp_path / "x.cfg").read_text()
    assert 'name = "web 1"\n' in text and 'kernel = "/srv/web.elf"\n' in text and 'vif = ["bridge=br0"]\n' in text
    assert main(["hypervisor-config", str(image), "--for=xl", "--output", str(tmp_path / "none/x.cfg")]) == 1
    assert "none/x.cfg cannot be written: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "instead", "error"),
    [
        ("firecracker:", "virtualbox:", "unexpected key not in schema 'virtualbox'"),
        ("append: quiet", "append: quiet\n    machine: q35", "hypervisors.libvirt has a machine"),
        ("firecracker:\n    append: quiet", "libvirt:", "hypervisors.libvirt has a machine"),
        ("append: quiet", "added: quiet", "mine.yaml:18"),
        (
            "embed:\n  kit: linux",
            "inputs:\n  kernel:\n    what: it\n    kind: elf\npack:\n  rootfs: cpio\n  kernel: kernel",
            "hypervisors is for images that boot as they are",
        ),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(written: str, instead: str, error: str) -> None:
    assert written in _MINE
    with pytest.raises(UnikernelError, match=error):
        read_library_os(_MINE.replace(written, instead), "mine.yaml")
