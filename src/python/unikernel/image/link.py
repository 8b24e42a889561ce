"""The final link: a library OS kit, the layers of a root file system and a manifest become one bootable ELF file.

The kit's kernel is one relocatable object. Beside it goes an object that holds the layers' archives where the kernel looks for its
root file system (see linux/kernel/rootfs.c), and the manifest as an ELF note; GNU ld does the rest with the kernel's own linker
script. No kernel is compiled here.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.image import manifest as image_manifest
from unikernel.image.layers import (
    Archive,
    manifest_layers,
    manifest_network,
    start_and_archives,
    write_archive,
)
from unikernel.image.limits import check_linkable, choose_memory
from unikernel.image.manifest_pb2 import LibraryOs, Manifest, Rootfs, Start
from unikernel.image.spec import ImageSpec
from unikernel.image.tools import run_tool
from unikernel.linux.command_line import command_line
from unikernel.linux.kit import Kit
from unikernel.linux.marker import COMMAND_LINE_MARKER
from unikernel.linux.pid1 import INIT_CONFIGURATION_PATH, INIT_PATH
from unikernel.rootfs.layer import Layer as RootfsLayer

_ASSEMBLY = """\
\t.section .data..page_aligned, "aw"
\t.balign 4096
\t.globl __unikernel_rootfs
__unikernel_rootfs:
{archives}
\t.globl __unikernel_rootfs_end
__unikernel_rootfs_end:
\t.section .init.ramfs.info, "a"
\t.balign 8
\t.globl __initramfs_size
__initramfs_size:
\t.quad 0
\t.section .note.unikernel, "a", @note
\t.balign 4
\t.incbin "{note}"
\t.balign 4
\t.section .note.GNU-stack, "", @progbits
"""


def link_image(
    spec: ImageSpec,
    *,
    kit: Kit,
    init: Path,
    layers: Sequence[Path],
    output: Path,
    scratch: Path,
    assembler: str,
    linker: str,
) -> None:
    """Writes the image to `output` and its manifest, as JSON, beside it. `layers` are archives, each with its index beside it.

    Raises UnikernelError before anything is linked when a library is missing or the rootfs fits neither memory nor kernel.
    """
    spec, start, archives = start_and_archives(spec, layers, scratch)
    archives.append(_configuration_archive(spec, start, init, scratch))
    indexes = [archive.index for archive in archives]
    check_linkable(indexes)
    memory = choose_memory(spec.memory, indexes)
    manifest = _manifest(spec, start, kit, archives, memory, init)
    _link(kit, spec, manifest, archives, output, scratch, assembler, linker)
    output.with_suffix(".json").write_text(image_manifest.to_json(manifest))


# --- layers that depend on the image's own settings ---------------------------------------------------------------


def _configuration_archive(spec: ImageSpec, start: Start, init: Path, scratch: Path) -> Archive:
    layer = RootfsLayer("configuration")
    layer.add_file(INIT_PATH, init, 0o755)
    layer.add_bytes(INIT_CONFIGURATION_PATH, init_configuration(spec, start), 0o600)
    return write_archive(layer, "configuration", scratch)


def init_configuration(spec: ImageSpec, start: Start) -> bytes:
    """The configuration of PID 1: NUL-terminated `key=value` records, as documented in linux/init/README.md."""
    records = [("exec", start.program)]
    records += [("arg", argument) for argument in start.arguments]
    records += [("env", variable) for variable in start.environment]
    records += [("workdir", start.working_directory), ("hostname", spec.hostname)]
    records += [("user", start.user)] if start.user else []
    records += [("network", spec.network.mode)]
    if spec.network.mode == "static":
        records += [("address", spec.network.address)]
        if spec.network.gateway:
            records += [("gateway", spec.network.gateway)]
    records += [("nameserver", nameserver) for nameserver in spec.network.nameservers]
    if not start.working_directory.startswith("/"):
        raise UnikernelError(f"The working directory {start.working_directory!r} is not an absolute path.")
    for key, value in records:
        if key == "env" and value.startswith("="):
            raise UnikernelError(f"The environment variable {value!r} has no name.")
        if "\0" in value:
            raise UnikernelError(f"The {key} {value!r} has a NUL character in it, which no program can be given.")
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in records)


# --- manifest and link --------------------------------------------------------------------------------------------


def _manifest(spec: ImageSpec, start: Start, kit: Kit, archives: Sequence[Archive], memory: int, init: Path) -> Manifest:
    inputs = {**kit.inputs, **spec.inputs, "kit": kit.sha256, "init": file_sha256(init)}
    layers = manifest_layers(archives)
    inputs.update({f"layer {layer.name}": layer.sha256 for layer in layers})
    return image_manifest.declared_manifest(
        spec,
        inputs=inputs,
        tools={**kit.tools, **spec.tools},
        architecture=spec.machine,
        library_os=LibraryOs(
            name=spec.library_os,
            version=kit.version,
            kit_sha256=kit.sha256,
            config_sha256=kit.config_sha256,
            config=kit.options,
        ),
        rootfs=Rootfs(
            sha256=image_manifest.rootfs_sha256(layers),
            size=sum(layer.size for layer in layers),
            layers=layers,
        ),
        command_line=command_line(spec.kernel_parameters),
        start=start,
        memory_bytes=memory,
        network=manifest_network(spec),
    )


def _link(
    kit: Kit,
    spec: ImageSpec,
    manifest: Manifest,
    archives: Sequence[Archive],
    output: Path,
    scratch: Path,
    assembler: str,
    linker: str,
) -> None:
    descriptor = image_manifest.encode(manifest)
    # Assembler strings know escapes; the scratch directory's name is ours and has none.
    contents = [f'.incbin "{archive.path}"' for archive in archives]
    image_object = _assemble(contents, descriptor, scratch, assembler)
    kernel = scratch / "kernel.o"
    write_kernel(kit, manifest.command_line, kernel)
    run_tool([*_link_command(linker, kit, descriptor, kernel, image_object, output), "--strip-all"], "link the image")
    output.chmod(0o755)


def _assemble(contents: Sequence[str], descriptor: bytes, scratch: Path, assembler: str) -> Path:
    """`contents` are the assembler's directives for the archives."""
    note = scratch / "manifest.note"
    note.write_bytes(image_manifest.note(descriptor))
    source = scratch / "image.s"
    archives = "\n".join(f"\t{content}\n\t.balign 4096" for content in contents)
    source.write_text(_ASSEMBLY.format(archives=archives, note=note))
    image_object = scratch / "image.o"
    run_tool([assembler, "-o", str(image_object), str(source)], "assemble the root file system")
    return image_object


def _link_command(linker: str, kit: Kit, descriptor: bytes, kernel: Path, image_object: Path, output: Path) -> list[str]:
    return [
        linker,
        "-m",
        "elf_x86_64",
        "-z",
        "noexecstack",
        "--no-warn-rwx-segments",
        "-z",
        "max-page-size=0x1000",
        f"--build-id=0x{image_manifest.build_id_of(descriptor)}",
        "--orphan-handling=warn",
        f"--script={kit.linker_script}",
        "-o",
        str(output),
        "--whole-archive",
        str(kernel),
        str(image_object),
    ]


def link_with_symbols(image: Path, kit: Kit, output: Path, scratch: Path, *, assembler: str, linker: str) -> None:
    """Links the kernel of an image once more, with its symbols and without its files. Raises UnikernelError for a kit that is not the
    image's.
    """
    descriptor, manifest = image_manifest.read_descriptor(image), image_manifest.read_manifest(image)
    if manifest.library_os.kit_sha256 != kit.sha256:
        raise UnikernelError(f"{image} is linked with another kit than {kit.root}: its symbols would be at other addresses.")
    # As much room as the archives take, so that all that comes after them is where it is in the image.
    contents = [f".skip {layer.size}" for layer in manifest.rootfs.layers]
    image_object = _assemble(contents, descriptor, scratch, assembler)
    run_tool(_link_command(linker, kit, descriptor, kit.kernel, image_object, output), "link the kernel with its symbols")


def write_kernel(kit: Kit, parameters: str, destination: Path) -> None:
    """A copy of the kit's kernel with the command line in it. The kit itself is an input: it is never written to."""
    encoded = parameters.encode()
    if len(encoded) >= len(COMMAND_LINE_MARKER):
        raise UnikernelError(
            f"The kernel's command line is {len(encoded)} bytes long; at most {len(COMMAND_LINE_MARKER) - 1} can be compiled in."
        )
    shutil.copyfile(kit.kernel, destination)
    with destination.open("r+b") as stream:
        stream.seek(kit.command_line_offset)
        if stream.read(len(COMMAND_LINE_MARKER)) != COMMAND_LINE_MARKER:
            raise UnikernelError(f"{kit.kernel} has no place for a command line: the kit is damaged; build it anew.")
        stream.seek(kit.command_line_offset)
        stream.write(encoded.ljust(len(COMMAND_LINE_MARKER), b"\0"))
