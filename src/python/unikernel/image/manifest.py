"""The manifest of an image: made by the link step, read back from any image wherever it is."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from unikernel.elf import parser_failures
from unikernel.errors import UnikernelError
from unikernel.image.attachment import read_trailer
from unikernel.image.manifest_pb2 import Input, Layer, Manifest, Port, Tool
from unikernel.image.spec import ImageSpec

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

SCHEMA_VERSION = 1
NOTE_OWNER = "unikernel"
# "UNI1": small numbers have names of their own in readers of ELF notes.
NOTE_TYPE = 0x554E4931
_NOTE_HEADER = struct.Struct("<III")
# As many as a SHA-1 has, which is what tools expect.
_BUILD_ID_DIGITS = 40


def encode(manifest: Manifest) -> bytes:
    """The message, the same bytes for the same manifest."""
    manifest.schema_version = SCHEMA_VERSION
    return manifest.SerializeToString(deterministic=True)


def build_id_of(descriptor: bytes) -> str:
    """The build id (hex) of an image with this manifest: it has the digest of all that goes in, so that nothing else has to be read."""
    return hashlib.sha256(descriptor).hexdigest()[:_BUILD_ID_DIGITS]


def rootfs_sha256(layers: Iterable[Layer]) -> str:
    """The digest (hex) of a root file system, of those of its layers: see manifest.proto."""
    return hashlib.sha256("".join(f"{layer.sha256}\n" for layer in layers).encode()).hexdigest()


def declared_manifest(spec: ImageSpec, *, inputs: Mapping[str, str], tools: Mapping[str, str], **others: Any) -> Manifest:
    """What every image says: what it was asked to be, and of what and by what it was made. `inputs` are digests and `tools` versions by
    name; `others` are further fields.
    """
    return Manifest(
        name=spec.name,
        target=spec.target,
        cpus=spec.cpus,
        ports=[Port(guest_port=port.guest_port, host_port=port.host_port, protocol=port.protocol) for port in spec.ports],
        inputs=[Input(name=name, sha256=digest) for name, digest in sorted(inputs.items())],
        tools=[Tool(name=name, version=version) for name, version in sorted(tools.items())],
        **others,
    )


def note(descriptor: bytes) -> bytes:
    """An ELF note (gABI, "Note Section"): sizes and type, then the owner and the descriptor, each padded to four bytes."""
    owner = NOTE_OWNER.encode() + b"\0"
    header = _NOTE_HEADER.pack(len(owner), len(descriptor), NOTE_TYPE)
    return header + owner + bytes(-len(owner) % 4) + descriptor + bytes(-len(descriptor) % 4)


def to_json(manifest: Manifest) -> str:
    return json_format.MessageToJson(manifest, preserving_proto_field_name=True, indent=2) + "\n"


def read_manifest(image: Path) -> Manifest:
    """Raises UnikernelError when the file is no image of ours, or one from a future."""
    try:
        manifest = Manifest.FromString(read_descriptor(image))
    except DecodeError as error:
        raise UnikernelError(f"The manifest of {image} is damaged: {error}.") from error
    if not 1 <= manifest.schema_version <= SCHEMA_VERSION:
        raise UnikernelError(
            f"The manifest of {image} has schema version {manifest.schema_version}; this toolkit reads up to {SCHEMA_VERSION}."
        )
    return manifest


def read_descriptor(image: Path) -> bytes:
    """The manifest as it is encoded in an image. Raises UnikernelError when the file is no image of ours."""
    from elftools.elf.elffile import ELFFile

    try:
        with image.open("rb") as stream:
            trailer = read_trailer(stream)
            descriptor = _parse_note(trailer[1]) if trailer is not None else _find_note(ELFFile(stream))
    except OSError as error:
        raise UnikernelError(f"{image} cannot be read: {error.strerror}.") from error
    except parser_failures() as error:
        reason = str(error) or type(error).__name__
        raise UnikernelError(
            f"{image} is no unikernel image: it is neither an ELF file ({reason}) nor a disk with a manifest behind it."
        ) from error
    if descriptor is None:
        raise UnikernelError(f"{image} is no unikernel image: there is no {NOTE_OWNER!r} note in it.")
    return descriptor


def _parse_note(content: bytes) -> bytes | None:
    """The descriptor of a note as `note` makes it."""
    if len(content) < _NOTE_HEADER.size:
        return None
    owner_size, size, kind = _NOTE_HEADER.unpack_from(content)
    owner = NOTE_OWNER.encode() + b"\0"
    start = _NOTE_HEADER.size + len(owner) + -len(owner) % 4
    if owner_size != len(owner) or kind != NOTE_TYPE or not content.startswith(owner, _NOTE_HEADER.size):
        return None
    return content[start : start + size] if start + size <= len(content) else None


def _find_note(elf: ELFFile) -> bytes | None:
    """A segment has it where the library OS's linker script makes one of notes, a section where it was added to a linked program."""
    from elftools.elf.sections import NoteSection
    from elftools.elf.segments import NoteSegment

    for part in itertools.chain(elf.iter_segments(), elf.iter_sections()):
        if isinstance(part, (NoteSegment, NoteSection)):
            for note in part.iter_notes():
                if note["n_name"] == NOTE_OWNER and note["n_type"] == NOTE_TYPE:
                    return note["n_descdata"]
    return None
