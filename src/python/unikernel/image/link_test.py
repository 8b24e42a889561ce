from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

import pytest

from unikernel.elf import read_elf_file
from unikernel.errors import UnikernelError
from unikernel.image.inspect import describe
from unikernel.image.link import (
    init_configuration,
    link_image,
    write_kernel,
)
from unikernel.image.manifest import read_manifest
from unikernel.image.manifest_pb2 import Start
from unikernel.image.spec import ImageSpec, Network, Port
from unikernel.image.tools import run_tool
from unikernel.linux.command_line import command_line
from unikernel.linux.kit import Kit
from unikernel.linux.marker import COMMAND_LINE_MARKER
from unikernel.rootfs.cpio import PAGE, read_cpio
from unikernel.testing.images import link_small_image, make_kit, small_kit

# --- the configuration of PID 1 -----------------------------------------------------------------------------------


def _start(**changes: object) -> Start:
    settings = {
        "program": "/app/a",
        "arguments": ["a", "", "x=y z"],
        "environment": ["A=1", "B="],
        "working_directory": "/",
    }
    return Start(**{**settings, **changes})  # type: ignore[arg-type]


def test_the_configuration_of_pid_1_with_a_static_address() -> None:
    network = Network("static", "10.0.2.15/24", "10.0.2.2", ("1.1.1.1", "8.8.8.8"), "host")
    assert init_configuration(ImageSpec("image", network=network), _start()).split(b"\0") == [
        *(b"exec=/app/a", b"arg=a", b"arg=", b"arg=x=y z", b"env=A=1", b"env=B=", b"workdir=/", b"hostname=host"),
        *(
            b"network=static",
            b"address=10.0.2.15/24",
            b"gateway=10.0.2.2",
            b"nameserver=1.1.1.1",
            b"nameserver=8.8.8.8",
            b"",
        ),
    ]


def test_the_configuration_of_pid_1_without_an_address() -> None:
    records = init_configuration(ImageSpec("image"), _start(arguments=["ü"], environment=[])).split(b"\0")
    assert records == [b"exec=/app/a", "arg=ü".encode(), b"workdir=/", b"hostname=image", b"network=dhcp", b""]
    assert b"hostname=" + b"i" * 64 + b"\0" in init_configuration(ImageSpec("i" * 100), _start())


def test_the_configuration_of_pid_1_names_who_runs_the_application() -> None:
    records = init_configuration(ImageSpec("image"), _start(user="1000:50")).split(b"\0")
    assert records.count(b"user=1000:50") == 1


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"arguments": ["a\0b"]}, "arg 'a"),
        ({"environment": ["A=\0"]}, "env 'A="),
        ({"environment": ["=1"]}, "'=1' has no name"),
        ({"working_directory": "tmp"}, "'tmp' is not an absolute path"),
    ],
)
def test_what_pid_1_would_refuse_is_refused_now(changes: dict[str, object], part: str) -> None:
    with pytest.raises(UnikernelError, match=part):
        init_configuration(ImageSpec("image"), _start(**changes))


# --- kernel and link ----------------------------------------------------------------------------------------------


def test_the_command_line_is_written_over_the_marker(tmp_path: Path) -> None:
    kernel = b"before" + COMMAND_LINE_MARKER + b"after"
    kit = make_kit(tmp_path / "kit", kernel, 6)
    write_kernel(kit, "quiet panic=-1", tmp_path / "kernel.o")
    written = (tmp_path / "kernel.o").read_bytes()
    assert written == b"before" + b"quiet panic=-1".ljust(len(COMMAND_LINE_MARKER), b"\0") + b"after"
    assert kit.kernel.read_bytes() == kernel, "the kit is an input"


def test_the_longest_command_line_ends_with_nul(tmp_path: Path) -> None:
    kit = make_kit(tmp_path / "kit", COMMAND_LINE_MARKER, 0)
    most = len(COMMAND_LINE_MARKER) - 1
    write_kernel(kit, "x" * most, tmp_path / "kernel.o")
    assert (tmp_path / "kernel.o").read_bytes() == b"x" * most + b"\0"
    with pytest.raises(UnikernelError, match=f"is {most + 1} bytes long; at most {most} can be compiled in"):
        write_kernel(kit, "x" * (most + 1), tmp_path / "kernel.o")


@pytest.mark.parametrize("offset", [5, 10**6])
def test_a_damaged_kit_is_noticed(tmp_path: Path, offset: int) -> None:
    with pytest.raises(UnikernelError, match="the kit is damaged"):
        write_kernel(make_kit(tmp_path / "kit", b"before" + COMMAND_LINE_MARKER, offset), "quiet", tmp_path / "kernel.o")


def test_a_tool_that_fails_shows_the_end_of_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="Cannot try it: sh ended with status 3.\nbad news$"):
        run_tool(["sh", "-c", "echo bad news >&2; exit 3"], "try it")
    with pytest.raises(UnikernelError, match=r"Cannot try it: .*/none cannot be run \(No such file or directory\)"):
        run_tool([str(tmp_path / "none")], "try it")


def test_an_image_is_linked_with_its_archives_its_command_line_and_its_manifest(tmp_path: Path) -> None:
    spec = ImageSpec(
        name="hello",
        ports=(Port(80, 8080),),
        environment={"B": "3"},
        arguments=("--flag",),
        kernel_parameters=("loglevel=7",),
        inputs={"source": "aa"},
    )
    image = link_small_image(tmp_path, small_kit(tmp_path), "image", spec)
    manifest = read_manifest(tmp_path / "image")
    assert read_elf_file(tmp_path / "image").kind.value == "static"
    assert list(manifest.start.arguments) == ["/app/hello", "--flag"]
    assert list(manifest.start.environment) == ["A=1", "B=3"]
    assert manifest.command_line == command_line(["loglevel=7"])
    assert manifest.command_line.encode() + b"\0" in image
    assert COMMAND_LINE_MARKER[:24] not in image
    assert list(manifest.library_os.config) == ["HZ=100", "NET=y"]
    assert [layer.name for layer in manifest.rootfs.layers] == ["base", "application", "configuration"]
    assert (manifest.ports[0].host_port, manifest.cpus, manifest.network.hostname) == (8080, 1, "hello")
    assert [item.name for item in manifest.inputs] == sorted(item.name for item in manifest.inputs)
    assert manifest.memory_bytes > 0
    # What the kernel lays out: one archive after another, each from a page on.
    start = image.index(b"070701")
    assert start % PAGE == 0
    paths = []
    with (tmp_path / "image").open("rb") as stream:
        for layer in manifest.rootfs.layers:
            stream.seek(start)
            paths += [entry.path for entry, _ in read_cpio(stream)]
            assert stream.tell() == start + layer.size
            assert layer.sha256 == hashlib.sha256(image[start : start + layer.size]).hexdigest()
            start += math.ceil(layer.size / PAGE) * PAGE
    assert {"dev/console", "app/hello", ".unikernel/init", ".unikernel/config"} <= set(paths)
    digests = "".join(f"{layer.sha256}\n" for layer in manifest.rootfs.layers)
    assert manifest.rootfs.sha256 == hashlib.sha256(digests.encode()).hexdigest()


def test_a_user_is_in_the_manifest_by_numbers(tmp_path: Path) -> None:
    image = link_small_image(tmp_path, small_kit(tmp_path), "image", ImageSpec("hello", user="nobody"))
    manifest = read_manifest(tmp_path / "image")
    assert manifest.start.user == "65534:65534"
    assert b"user=65534:65534\0" in image
    assert re.search(r"^user +65534:65534$", describe(manifest, tmp_path / "image"), re.MULTILINE)


def test_a_kit_of_another_version_is_refused(tmp_path: Path) -> None:
    root = small_kit(tmp_path).root
    assert Kit.load(root).version == "6.1.1"
    facts = json.loads((root / "kit.json").read_text())
    del facts["layout"]
    (root / "kit.json").write_text(json.dumps(facts))
    with pytest.raises(UnikernelError, match="was made by another version"):
        Kit.load(root)


def test_an_image_is_the_same_bytes_in_two_runs(tmp_path: Path) -> None:
    kit = small_kit(tmp_path)
    assert link_small_image(tmp_path, kit, "one", ImageSpec("a")) == link_small_image(tmp_path, kit, "two", ImageSpec("a"))
    assert link_small_image(tmp_path, kit, "three", ImageSpec("b")) != link_small_image(tmp_path, kit, "four", ImageSpec("a"))


def test_without_an_application_there_is_nothing_to_start(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="None of the layers says what to start"):
        link_image(
            ImageSpec("a"),
            kit=small_kit(tmp_path),
            init=tmp_path,
            layers=[],
            output=tmp_path / "image",
            scratch=tmp_path,
            assembler="as",
            linker="ld",
        )
