"""The last step of an image that is packed: the layers of a root file system are written down as the library OS wants them, its tool
makes of that what boots, and the manifest goes with it.

The image is one file: the library OS's kernel with what was packed as a section, where the description names a kernel; what was packed
itself, where not. Nothing that boots is changed: see attachment.py.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.elf import is_elf
from unikernel.errors import UnikernelError
from unikernel.image import manifest as image_manifest
from unikernel.image.attachment import ROOTFS_SECTION, Section, append_sections, append_trailer, manifest_section
from unikernel.image.layers import (
    Archive,
    manifest_layers,
    manifest_network,
    start_and_archives,
    with_usual_environment,
)
from unikernel.image.limits import MemoryNeeds, choose_memory
from unikernel.image.manifest_pb2 import LibraryOs, Manifest, Rootfs, Start
from unikernel.image.spec import ImageSpec
from unikernel.image.tools import run_tool
from unikernel.library_os.command_line import check_words, render_command_line
from unikernel.library_os.description import LibraryOs as Description
from unikernel.library_os.description import Pack, RootfsForm
from unikernel.library_os.nanos_manifest import nanos_manifest
from unikernel.library_os.osv_manifest import osv_manifest
from unikernel.rootfs.cpio import PAGE
from unikernel.rootfs.merge import MergedRootfs, merged_rootfs


@dataclass(frozen=True)
class Packer:
    """A library OS that packs. `inputs` are its kernel and tools by name; `description` is its text, if it does not come along with the
    toolkit.
    """

    library_os: Description
    version: str
    inputs: Mapping[str, Path]
    description: str = ""

    @property
    def method(self) -> Pack:
        assert isinstance(self.library_os.build, Pack)
        return self.library_os.build


def pack_image(spec: ImageSpec, packer: Packer, *, layers: Sequence[Path], output: Path, scratch: Path) -> None:
    """Writes the image to `output` and its manifest, as JSON, beside it: both or neither. `layers` are archives, each with its index
    beside it.

    Raises UnikernelError when a library is missing, the rootfs does not fit the memory, or the library OS's tool fails.
    """
    library_os = packer.library_os
    spec, start, archives = start_and_archives(
        spec, layers, scratch, is_whole=packer.method.rootfs is not RootfsForm.PROGRAM, has_users=False
    )
    if library_os.command_line.environment:
        start = with_usual_environment(start)
    _check_start(library_os, spec, start)
    memory = choose_memory(spec.memory, [archive.index for archive in archives], MemoryNeeds.of_library_os(library_os))
    with merged_rootfs([archive.path for archive in archives]) as rootfs:
        packed = _pack(packer, spec, rootfs, start, scratch)
    manifest = _manifest(spec, packer, start, archives, packed, memory)
    # In the output's own directory, so that it is there whole or not at all.
    partial = output.with_name(f".{output.name}.partial")
    try:
        _compose(packer, packed, image_manifest.note(image_manifest.encode(manifest)), partial)
        partial.chmod(0o755 if is_elf(partial) else 0o644)
        output.with_suffix(".json").write_text(image_manifest.to_json(manifest))
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def _check_start(library_os: Description, spec: ImageSpec, start: Start) -> None:
    """Raises UnikernelError for what the application cannot be given."""
    environment = dict(variable.split("=", 1) for variable in start.environment)
    if library_os.command_line.in_image:
        check_words(library_os, start.arguments[1:], environment)
    else:
        render_command_line(library_os, start.program, start.arguments[1:], environment)


def _pack(packer: Packer, spec: ImageSpec, rootfs: MergedRootfs, start: Start, scratch: Path) -> Path:
    method = packer.method
    written = _write_rootfs(method.rootfs, rootfs, start, spec, scratch)
    if not method.command:
        return written
    packed = scratch / f"packed.{method.suffix}"
    place = {**{name: str(path.absolute()) for name, path in packer.inputs.items()}, "rootfs": str(written), "packed": str(packed)}
    argv = [word.format(**place) for word in method.command]
    name = packer.library_os.name
    run_tool(
        argv,
        f"pack the image for {name}",
        standard_input=Path(place[method.standard_input]) if method.standard_input else None,
        environment={"PATH": os.environ.get("PATH", os.defpath)},
    )
    if not packed.is_file() or packed.stat().st_size == 0:
        raise UnikernelError(f"{argv[0]} ended well, but made no image: the description of {name} has it write to {{packed}}.")
    return packed


def _write_rootfs(form: RootfsForm, rootfs: MergedRootfs, start: Start, spec: ImageSpec, scratch: Path) -> Path:
    if form is RootfsForm.CPIO:
        archive = scratch / "rootfs.cpio"
        rootfs.write_cpio(archive)
        return archive
    if form is RootfsForm.PROGRAM:
        program = scratch / "program"
        rootfs.write_file(rootfs.resolve(start.program), program)
        return program
    if form is RootfsForm.DIRECTORY:
        directory = scratch / "rootfs"
        directory.mkdir()
        rootfs.write_directory(directory)
        return directory
    files = {}
    contents = scratch / "files"
    contents.mkdir()
    for number, (path, entry) in enumerate(rootfs.entries.items()):
        if stat.S_ISREG(entry.mode):
            files[path] = str(contents / str(number))
            rootfs.write_file(path, Path(files[path]))
    manifest = scratch / "manifest"
    text = osv_manifest(rootfs, files) if form is RootfsForm.OSV_MANIFEST else nanos_manifest(rootfs, files, start, spec.network)
    manifest.write_text(text, errors="surrogateescape")
    return manifest


def _manifest(spec: ImageSpec, packer: Packer, start: Start, archives: Sequence[Archive], packed: Path, memory: int) -> Manifest:
    layers = manifest_layers(archives)
    inputs = {f"{packer.library_os.name} {name}": file_sha256(path) for name, path in packer.inputs.items()}
    inputs.update({f"layer {layer.name}": layer.sha256 for layer in layers})
    if packer.method.kernel or not is_elf(packed):
        rootfs = Rootfs(
            sha256=image_manifest.rootfs_sha256(layers),
            size=sum(layer.size for layer in layers),
            layers=layers,
            packed_sha256=file_sha256(packed),
            packed_size=packed.stat().st_size,
        )
    else:
        # A program that boots by itself: there is no file system in the image.
        rootfs = Rootfs(sha256=image_manifest.rootfs_sha256([]))
        inputs["program"] = file_sha256(packed)
    return image_manifest.declared_manifest(
        spec,
        inputs={**spec.inputs, **inputs},
        tools=spec.tools,
        architecture=packer.library_os.architecture,
        library_os=LibraryOs(name=packer.library_os.name, version=packer.version, description=packer.description),
        rootfs=rootfs,
        command_line=" ".join(spec.kernel_parameters),
        start=start,
        memory_bytes=memory,
        network=manifest_network(spec),
        not_reproducible=not packer.method.deterministic,
    )


def _compose(packer: Packer, packed: Path, note: bytes, image: Path) -> None:
    stamp = manifest_section(note)
    if packer.method.kernel:
        append_sections(packer.inputs[packer.method.kernel], [Section(ROOTFS_SECTION, "SHT_PROGBITS", packed, PAGE), stamp], image)
    elif is_elf(packed):
        append_sections(packed, [stamp], image)
    else:
        append_trailer(packed, note, image)
