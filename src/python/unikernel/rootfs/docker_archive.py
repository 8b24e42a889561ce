"""Reads what `docker image save` writes: a tar archive of an image's configuration and its layers, which are tar archives themselves.

Formats: https://github.com/moby/docker-image-spec (v1.2: manifest.json, and directories for layers, as Docker wrote them up to 24), and
https://github.com/opencontainers/image-spec (config.md, and blobs by digest, as Docker writes them since 25, with manifest.json beside
them). Nothing is unpacked: a layer is a part of the archive, or, if it is compressed, of a copy.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import posixpath
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from unikernel.blocks import HashingReader, Part
from unikernel.errors import UnikernelError
from unikernel.image.spec import Port

_MANIFEST = "manifest.json"
# Documents are read as a whole. Configurations are some kilobytes, with the history of a long Dockerfile.
_LARGEST_DOCUMENT = 16 * 2**20
_MOST_LINKS = 40
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([a-z]+))?")
# What tarfile and json raise for nonsense, beside their own exceptions.
_NONSENSE = (ValueError, LookupError, ArithmeticError, AttributeError, TypeError, EOFError, MemoryError, RecursionError)
_DAMAGED = (tarfile.TarError, zlib.error, gzip.BadGzipFile, *_NONSENSE)


@dataclass(frozen=True)
class ImageConfig:
    """What an image says of how it is run. `ports` are like "8080/tcp"; `unusable_ports` are of protocols that are not forwarded."""

    operating_system: str
    architecture: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    user: str = ""
    ports: tuple[str, ...] = ()
    unusable_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedLayer:
    """A tar archive in a file: the `size` bytes from `start`. `digest` (SHA-256, hex) is of it without its compression."""

    file: Path
    start: int
    size: int
    digest: str


@dataclass(frozen=True)
class SavedImage:
    """`digest` (SHA-256, hex) is of the configuration, which has the digests of the layers. The lowest layer is the first."""

    digest: str
    config: ImageConfig
    layers: tuple[SavedLayer, ...]


@contextmanager
def damage_is_an_error(what: str) -> Iterator[None]:
    """Turns what parsers raise into a UnikernelError."""
    try:
        yield
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise UnikernelError(f"{what} is damaged or cut off ({reason}): save it again.") from error


def read_image(archive: Path, image_id: str = "") -> SavedImage:
    """The image in an archive. `image_id` (a digest, or the beginning of one) is what the archive is to hold.

    Raises UnikernelError for what is no such archive, is damaged, or holds another image.
    """
    what = f"The archive {archive.name} of a Docker image"
    with damage_is_an_error(what), archive.open("rb") as file:
        members = _members(file, what)
        description = _description(file, members, image_id, what)
        content = _content(file, members, _text(description["Config"]), what)
        digest = hashlib.sha256(content).hexdigest()
        _check_identity(digest, _text(description["Config"]), image_id, members, what)
        document = json.loads(content)
        names = [_text(name) for name in description["Layers"] or ()]
        diff_ids = [_sha256(text) for text in (document.get("rootfs") or {}).get("diff_ids") or ()]
        if len(names) != len(diff_ids):
            raise ValueError(f"it has {len(names)} layers, and its configuration {len(diff_ids)}")
        layers = []
        for name, diff_id in zip(names, diff_ids):
            member = _member(members, name, what)
            layers.append(SavedLayer(archive, member.offset_data, member.size, diff_id))
        return SavedImage(digest, _config(document), tuple(layers))


# --- the archive --------------------------------------------------------------------------------------------------


def _members(file: BinaryIO, what: str) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    end = file.seek(0, 2)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
        position = -1
        for member in archive:
            # tarfile takes a negative size, and goes back for ever.
            if member.offset <= position or member.size < 0 or (member.isreg() and member.offset_data + member.size > end):
                raise UnikernelError(f"{what} is damaged or cut off at {member.name!r}: save it again.")
            position = member.offset
            members[posixpath.normpath(member.name)] = member
    return members


def _member(members: Mapping[str, tarfile.TarInfo], name: str, what: str) -> tarfile.TarInfo:
    """The regular file of that name. A layer that another one equals is a link to that."""
    path = posixpath.normpath(name)
    for _ in range(_MOST_LINKS):
        member = members.get(path)
        if member is None or not (member.issym() or member.islnk()):
            break
        directory = posixpath.dirname(path) if member.issym() else ""
        path = posixpath.normpath(posixpath.join(directory, member.linkname))
    if member is None or not member.isreg() or member.issparse():
        raise UnikernelError(f"{what} is damaged or cut off: it has no file {name!r}. Save it again.")
    return member


def _content(file: BinaryIO, members: Mapping[str, tarfile.TarInfo], name: str, what: str) -> bytes:
    member = _member(members, name, what)
    if member.size > _LARGEST_DOCUMENT:
        raise ValueError(f"{name} has {member.size} bytes")
    return Part(file, member.offset_data, member.size).read()


def _description(file: BinaryIO, members: Mapping[str, tarfile.TarInfo], image_id: str, what: str) -> Mapping[str, Any]:
    """The image's entry in manifest.json; by its configuration, if there are several."""
    if _MANIFEST not in members:
        raise UnikernelError(f"{what} has no {_MANIFEST}: it is damaged or cut off, or was not written by `docker image save`.")
    images = json.loads(_content(file, members, _MANIFEST, what))
    chosen = [image for image in images if len(images) == 1 or (image_id and _hex(image_id) in _text(image["Config"]))]
    if len(chosen) != 1:
        raise UnikernelError(f"{what} holds {len(images)} images: save the one that is meant, by its id.")
    return cast("Mapping[str, Any]", chosen[0])


def _check_identity(digest: str, name: str, image_id: str, members: Mapping[str, tarfile.TarInfo], what: str) -> None:
    declared = _DIGEST.search(name)
    if declared is not None and declared[0] != digest:
        raise ValueError("its configuration has another digest than its name says")
    # With containerd's store, an image's id is the digest of its manifest.
    known = [digest, *(posixpath.basename(path) for path in members if path.startswith("blobs/sha256/"))]
    if image_id and not any(each.startswith(_hex(image_id)) for each in known):
        raise UnikernelError(f"{what} holds the image sha256:{digest}, and not {image_id}.")


def _hex(image_id: str) -> str:
    return image_id.partition(":")[2] or image_id


def _sha256(text: Any) -> str:
    algorithm, _, digest = _text(text).partition(":")
    if algorithm != "sha256" or not _DIGEST.fullmatch(digest):
        raise ValueError(f"{text!r} is no SHA-256 digest")
    return digest


# --- layers -------------------------------------------------------------------------------------------------------


def uncompressed(layer: SavedLayer, copy: Path, what: str) -> SavedLayer:
    """The layer itself, or, if it is compressed, one in the new file `copy`."""
    with layer.file.open("rb") as file:
        file.seek(layer.start)
        magic = file.read(min(4, layer.size))
        if magic == _ZSTD:
            raise UnikernelError(
                f"{what} is compressed by zstd, which is not supported: build the image with gzip, or uncompressed."
            )
        if not magic.startswith(_GZIP):
            return layer
        part = cast("IO[bytes]", Part(file, layer.start, layer.size))
        with damage_is_an_error(what), gzip.GzipFile(fileobj=part) as content, copy.open("wb") as stream:
            shutil.copyfileobj(content, stream, 1 << 20)
    return SavedLayer(copy, 0, copy.stat().st_size, layer.digest)


def layer_members(layer: SavedLayer, what: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an uncompressed layer, in order, each with the archive while its content is at hand there.

    Raises UnikernelError for one that is damaged: its digest shows that, after the last member.
    """
    with damage_is_an_error(what), layer.file.open("rb") as file:
        reader = HashingReader(cast("BinaryIO", Part(file, layer.start, layer.size)))
        stream = cast("IO[bytes]", reader)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 16, encoding="utf-8", errors="surrogateescape") as archive:
            while True:
                member = archive.next()
                if member is None:
                    break
                if member.size < 0:
                    raise ValueError(f"{member.name!r} has {member.size} bytes")
                # It would keep all of them.
                cast(Any, archive).members.clear()
                yield archive, member
        while reader.read(1 << 20):
            pass
        # tarfile takes a header that is damaged for the end.
        if reader.sha256.hexdigest() != layer.digest:
            raise ValueError("it has another digest than the image's configuration says")


# --- the configuration --------------------------------------------------------------------------------------------


def _config(document: Mapping[str, Any]) -> ImageConfig:
    config: Mapping[str, Any] = document.get("config") or {}
    variables = (text.partition("=") for text in _texts(config.get("Env")))
    ports, unusable = _ports(config.get("ExposedPorts") or {})
    entrypoint = _texts(config.get("Entrypoint"))
    return ImageConfig(
        operating_system=_text(document.get("os") or "linux"),
        architecture=_text(document.get("architecture") or ""),
        # ENTRYPOINT [""] is how Docker forgets one.
        entrypoint=() if entrypoint == ("",) else entrypoint,
        command=_texts(config.get("Cmd")),
        environment={name: value for name, equals, value in variables if name and equals},
        # A relative one is below the root directory for Docker.
        working_directory=posixpath.join("/", _text(config.get("WorkingDir") or "")),
        user=_text(config.get("User") or ""),
        ports=ports,
        unusable_ports=unusable,
        volumes=tuple(sorted(_text(path) for path in config.get("Volumes") or {})),
    )


def _ports(exposed: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that can be forwarded, in the order of their numbers, and the others."""
    usable: set[tuple[int, str]] = set()
    others = set()
    for text in exposed:
        match = _PORTS.fullmatch(_text(text))
        if match is None:
            raise ValueError(f"{text!r} is no port")
        first, last, protocol = int(match[1]), int(match[2] or match[1]), match[3] or "tcp"
        if protocol == "sctp":
            others.add(text)
            continue
        ports = [Port.parse(f"{number}/{protocol}") for number in (first, *range(first + 1, last + 1))]
        usable |= {(port.guest_port, port.protocol) for port in ports}
    return tuple(f"{number}/{protocol}" for number, protocol in sorted(usable)), tuple(sorted(others))


def _texts(value: Any) -> tuple[str, ...]:
    """Old images have a text where there is a list now."""
    if isinstance(value, str):
        value = [value]
    return tuple(_text(text) for text in value or ())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    # JSON can express halves of surrogate pairs, which no program can be given.
    value.encode()
    return value
