"""What a verifier reads is written by others: whatever it is, the answer is an error of ours, and memory stays bounded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unikernel.errors import UnikernelError
from unikernel.image.attachment import (
    ROOTFS_SECTION,
    SECTOR,
    Section,
    append_sections,
    append_trailer,
    manifest_section,
)
from unikernel.image.contents import check_contents
from unikernel.image.manifest import encode, read_manifest
from unikernel.image.manifest import note as elf_note
from unikernel.image.manifest_pb2 import Layer, Manifest, Rootfs
from unikernel.image.spec import ImageSpec
from unikernel.signing.documents import parse
from unikernel.signing.policy import Policy
from unikernel.testing.images import image_with_note, link_small_image, small_kit
from unikernel.testing.programs import tiny_program

_MEMORY = 256 << 20
_NUMBERS = st.sampled_from([0, 1, 3, 0x7F, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF])
# ELF-64, little-endian (gABI, "ELF Header"): offset and form of what says where things are, and how many.
_HEADER_FIELDS = {"e_phoff": (32, "Q"), "e_shoff": (40, "Q"), "e_phentsize": (54, "H"), "e_phnum": (56, "H")}
_HEADER_FIELDS.update({"e_shentsize": (58, "H"), "e_shnum": (60, "H"), "e_shstrndx": (62, "H"), "e_ident": (4, "B")})
# Of a program header and of a note, relative to where it starts.
_SEGMENT_FIELDS = {"p_type": (0, "I"), "p_offset": (8, "Q"), "p_filesz": (32, "Q"), "p_memsz": (40, "Q"), "p_align": (48, "Q")}
_NOTE_FIELDS = {"n_namesz": (0, "I"), "n_descsz": (4, "I"), "n_type": (8, "I")}


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """No more than `_MEMORY` beyond what this process has now: what asks for more gets a MemoryError."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("image")
    return link_small_image(directory, small_kit(directory), "image.elf", ImageSpec("image"))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "image.elf"


def _read(path: Path) -> None:
    with bounded_memory(), contextlib.suppress(UnikernelError):
        check_contents(path, read_manifest(path))


def _put(content: bytearray, start: int, field: tuple[int, str], number: int) -> None:
    offset, form = field
    if 0 <= start <= len(content) - offset - struct.calcsize(form):
        struct.pack_into(f"<{form}", content, start + offset, number & (1 << 8 * struct.calcsize(form)) - 1)


_changes = st.lists(
    st.tuples(
        st.sampled_from([*_HEADER_FIELDS, *_SEGMENT_FIELDS, *_NOTE_FIELDS]), st.integers(0, 3), _NUMBERS | st.integers(0, 1 << 64)
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(changes=_changes, length=st.none() | st.integers(0, 20000))
@example(changes=[("n_descsz", 0, 0xFFFFFFFF)], length=None)
@example(changes=[("n_namesz", 0, 0xFFFFFFFF)], length=None)
@example(changes=[("p_filesz", 1, 0xFFFFFFFFFFFFFFFF), ("n_descsz", 0, 0x7FFFFFFF)], length=None)
def test_an_elf_file_that_lies_about_what_is_in_it(
    image: bytes, scratch: Path, changes: list[tuple[str, int, int]], length: int | None
) -> None:
    content = bytearray(image)
    segments, size, count = (struct.unpack_from(f"<{form}", image, offset)[0] for offset, form in ((32, "Q"), (54, "H"), (56, "H")))
    note = image.index(b"unikernel\0") - 12
    for name, number, value in changes:
        if name in _HEADER_FIELDS:
            _put(content, 0, _HEADER_FIELDS[name], value)
        elif name in _SEGMENT_FIELDS:
            _put(content, segments + size * (number % count), _SEGMENT_FIELDS[name], value)
        else:
            _put(content, note, _NOTE_FIELDS[name], value)
    scratch.write_bytes(content[:length])
    _read(scratch)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_elf_file(scratch: Path, content: bytes) -> None:
    for prefix in (b"", b"\x7fELF", b"\x7fELF\2\1\1" + bytes(9)):
        scratch.write_bytes(prefix + content)
        _read(scratch)


@pytest.fixture(scope="module")
def image_of_note(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """An image with a note as long as any of those that it is replaced by."""
    note = bytes(range(1, 255)) * 2
    return image_with_note(tmp_path_factory.mktemp("note") / "image", note).read_bytes(), note


_layers = st.lists(
    st.builds(Layer, name=st.text(max_size=5), sha256=st.text(max_size=70), size=st.integers(0, 2**64 - 1)), max_size=3
)
_manifests = st.builds(
    Manifest,
    name=st.text(max_size=5),
    command_line=st.text(max_size=20),
    memory_bytes=st.integers(0, 2**64 - 1),
    rootfs=st.builds(Rootfs, sha256=st.text(max_size=70), size=st.integers(0, 2**64 - 1), layers=_layers),
)

_packed = st.builds(
    Manifest,
    rootfs=st.builds(
        Rootfs,
        packed_sha256=st.sampled_from(["ab", "", hashlib.sha256(b"packed").hexdigest()]) | st.text(max_size=5),
        packed_size=_NUMBERS | st.integers(0, 5000),
    ),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=400) | _manifests.map(encode))
def test_a_note_that_is_no_manifest_or_one_of_another_image(image_of_note: tuple[bytes, bytes], scratch: Path, note: bytes) -> None:
    content, place = image_of_note
    scratch.write_bytes(content.replace(place, note[: len(place)].ljust(len(place), b"\0")))
    _read(scratch)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=400) | _packed.map(lambda manifest: elf_note(encode(manifest))), _NUMBERS, _NUMBERS, st.booleans())
def test_a_disk_with_a_trailer_that_lies(scratch: Path, content: bytes, start: int, size: int, is_told: bool) -> None:
    disk = scratch.with_name("disk")
    disk.write_bytes(b"disk" * 1000)
    append_trailer(disk, content, scratch)
    if not is_told:
        image = bytearray(scratch.read_bytes())
        struct.pack_into("<QQ", image, len(image) - SECTOR + 16, start, size)
        scratch.write_bytes(image)
    _read(scratch)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_packed, st.lists(st.tuples(st.sampled_from([0, 4, 8, 24, 32, 40, 48, 56]), st.integers(1, 4), _NUMBERS), max_size=3))
def test_sections_that_lie(packed_image: Path, scratch: Path, manifest: Manifest, changes: list[tuple[int, int, int]]) -> None:
    rootfs = scratch.with_name("rootfs")
    rootfs.write_bytes(b"packed")
    sections = [Section(ROOTFS_SECTION, "SHT_PROGBITS", rootfs), manifest_section(elf_note(encode(manifest)))]
    append_sections(packed_image, sections, scratch)
    content = bytearray(scratch.read_bytes())
    table, size, count = (struct.unpack_from(f"<{form}", content, offset)[0] for offset, form in ((40, "Q"), (58, "H"), (60, "H")))
    for field, number, value in changes:
        # Of the last sections: names, the root file system, the manifest.
        _put(content, table + size * (count - number), (field, "Q" if field >= 8 else "I"), value)
    scratch.write_bytes(content)
    _read(scratch)


@pytest.fixture(scope="module")
def packed_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_program(tmp_path_factory.mktemp("packed") / "kernel")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100000,
        b'{"a":' * 100000,
        b'{"a": ' + b"1" * 10**6 + b"}",
        b'{"a": -' + b"1" * 10**6 + b"}",
        b'{"a": 1e999}',
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b'{"a": 1, "\\u0061": 2}',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        b"{}" * 1000,
        json.dumps({"a": "b" * (65 << 20)}).encode(),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_json_that_is_made_to_hurt(content: bytes) -> None:
    for read in (lambda: parse(content, "it"), lambda: Policy.parse(content, "it")):
        with bounded_memory(), pytest.raises(UnikernelError, match="it "):
            read()
