"""Archives of prebuilt kits: one file with a kit, PID 1, and a document that says what they are.

Format: an uncompressed ustar archive (POSIX.1-1988) that has exactly one form for its contents, to
the byte. A reader knows each header before it reads it, so no other name, kind of entry, size field
or trailing byte is accepted. Limits are on what is read into memory or written to disk.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Callable, NoReturn, Protocol

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.linux.kit import KitFacts
from unikernel.linux.kit_key import KeyIngredients, key_ingredients
from unikernel.signing.documents import parse, parse_line, serialize_line

SUFFIX = ".kit"
INIT = "init"
_DOCUMENT = "kit-archive.json"
_FORMAT = 1
_CONFIG, _KERNEL, _FACTS, _LINKER_SCRIPT = "kernel.config", "kernel.o", "kit.json", "vmlinux.lds"
KIT_FILES = (_CONFIG, _KERNEL, _FACTS, _LINKER_SCRIPT)
# Member -> the most bytes that it may have, in the order in which they are in an archive.
_MEMBERS = {
    INIT: 64 << 20,
    _CONFIG: 4 << 20,
    _KERNEL: 256 << 20,
    _FACTS: 1 << 16,
    _LINKER_SCRIPT: 4 << 20,
}
_LARGEST_DOCUMENT = 256 << 10
LARGEST_ARCHIVE = sum(_MEMBERS.values()) + _LARGEST_DOCUMENT + (1 << 16)
_LICENSES = (
    "init: Apache-2.0, linked statically with the C library of the machine that compiled it. All other files: GPL-2.0-only WITH "
    "Linux-syscall-note; their source is the kernel source with the digest source_sha256 in kit.json, and linux/kernel/*.c of the "
    "unikernel toolkit with the digests in this document."
)
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_SIZE_FIELD = slice(124, 136)
_NAME_FIELD = slice(0, 100)
_SIZE = re.compile(rb"([0-7]{11})\0")
_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Member:
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class KitDocument:
    """What an archive says of itself. `development_key` is whether a key signs it that nobody
    configured.
    """

    ingredients: KeyIngredients
    development_key: bool
    members: tuple[Member, ...]
    licenses: str = _LICENSES

    @property
    def key(self) -> str:
        return self.ingredients.key

    @property
    def differences(self) -> list[str]:
        """What keeps this version of the toolkit from asking for the kit: toolkit files that
        differ.
        """
        own, theirs = key_ingredients(self.ingredients.kernel_options).sources, self.ingredients.sources
        return sorted(path for path in {*own, *theirs} if own.get(path) != theirs.get(path))

    def to_json(self) -> dict[str, Any]:
        return {"format": _FORMAT, "key": self.key, **asdict(self)}


@dataclass(frozen=True)
class KitContents:
    document: KitDocument
    facts: KitFacts


def is_cache_key(text: str) -> bool:
    return _HEX_SHA256.fullmatch(text) is not None


def archive_name(key: str) -> str:
    return f"{key}{SUFFIX}"


# --- writing ---


def write_archive(kit: Path, init: Path, ingredients: KeyIngredients, output: Path, *, development_key: bool) -> KitDocument:
    """Write the archive of a kit (a directory as `build_kit` makes it) and of PID 1's program.

    Raises UnikernelError for a kit that was altered, or that does not have the kernel options that
    are asked for.
    """
    paths = {name: init if name == INIT else kit / name for name in _MEMBERS}
    try:
        members = tuple(Member(name, path.stat().st_size, file_sha256(path)) for name, path in paths.items())
        facts = _facts(paths[_FACTS].read_bytes(), members, str(kit))
        _check_options(ingredients, paths[_CONFIG].read_text(), kit)
    except OSError as error:
        raise UnikernelError(
            f"{kit} is not a kit that can be exported: {error.filename} cannot be read ({error.strerror})."
        ) from error
    except UnicodeDecodeError as error:
        raise UnikernelError(f"{kit} is not a kit that can be exported: its {_CONFIG} is not text.") from error
    if facts.layout != ingredients.layout:
        _refuse_layout(str(kit), facts.layout)
    document = KitDocument(ingredients, development_key, members)
    content = serialize_line(document.to_json())
    _check_members(members, str(kit))
    with output.open("wb") as stream:
        stream.write(_header(_DOCUMENT, len(content)) + content + _padding(len(content)))
        for member in members:
            stream.write(_header(member.name, member.size))
            with paths[member.name].open("rb") as source:
                for piece in iter(lambda: source.read(_PIECE), b""):
                    stream.write(piece)
            stream.write(_padding(member.size))
        stream.write(_END)
    return document


def _check_options(ingredients: KeyIngredients, config: str, kit: Path) -> None:
    lines = set(config.splitlines())
    for option in ingredients.kernel_options:
        symbol, _, value = option.partition("=")
        # An option whose dependencies are off is not mentioned at all.
        found = not any(line.startswith(f"{symbol}=") for line in lines) if value == "n" else option in lines
        if not found:
            raise UnikernelError(
                f"{kit}: its kernel was not configured with {option}. Name the options that it was configured with."
            )


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o755 if name == INIT else 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


# --- reading ---


class Readable(Protocol):
    def read(self, size: int) -> bytes:
        ...


def read_archive(stream: Readable, name: str, extract: Callable[[str], BinaryIO] | None = None) -> KitContents:
    """Read an archive to its end, and check all of it against its document.

    `extract` opens the files that members are written to. Raises UnikernelError, with `name` in it,
    for anything but an archive that `write_archive` writes; what was written then must not be used.
    """
    reader = _Reader(stream, name)
    document = _document(reader)
    content = b""
    for member in document.members:
        found = reader.read(_BLOCK)
        if found != _header(member.name, member.size):
            reader.refuse(f"it has {_name_in(found)} where its document lists {member.name!r} with {member.size} bytes")
        output = extract(member.name) if extract is not None else None
        try:
            digest = hashlib.sha256()
            for piece in reader.pieces(member.size):
                digest.update(piece)
                if output is not None:
                    output.write(piece)
                if member.name == _FACTS:
                    content += piece
        finally:
            if output is not None:
                output.close()
        if digest.hexdigest() != member.sha256:
            reader.refuse(f"its member {member.name!r} has another SHA-256 than its document lists")
        reader.expect(_padding(member.size))
    reader.expect(_END)
    if stream.read(1):
        reader.refuse("there is more after its end")
    facts = _facts(content, document.members, name)
    if facts.layout != document.ingredients.layout:
        reader.refuse(f"its {_FACTS} is for layout {facts.layout}, and its document for {document.ingredients.layout}")
    return KitContents(document, facts)


@dataclass(frozen=True)
class _Reader:
    stream: Readable
    name: str

    def read(self, size: int) -> bytes:
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self.stream.read(min(size, _PIECE))
            if not piece:
                self.refuse("it ends too early")
            size -= len(piece)
            yield piece

    def expect(self, content: bytes) -> None:
        if self.read(len(content)) != content:
            self.refuse("it has something else where there are only zeros between members and at the end")

    def refuse(self, reason: str) -> NoReturn:
        _refuse(self.name, reason)


def _refuse(name: str, reason: str) -> NoReturn:
    raise UnikernelError(f"{name} is not a valid kit archive: {reason}. Get it again from where it was exported.")


def _refuse_layout(name: str, layout: object) -> NoReturn:
    raise UnikernelError(
        f"{name} has a kit of layout {layout!r}, but this version of unikernel links layout {KitFacts.layout}. Export it again with "
        "this version."
    )


def _name_in(header: bytes) -> str:
    found = header[_NAME_FIELD].split(b"\0")[0].decode("ascii", "replace")
    return repr(found) if found else "nothing"


def _document(reader: _Reader) -> KitDocument:
    header = reader.read(_BLOCK)
    match = _SIZE.fullmatch(header[_SIZE_FIELD])
    size = int(match[1], 8) if match is not None else 0
    if header != _header(_DOCUMENT, size):
        reader.refuse(f"it does not start with {_DOCUMENT}")
    if size > _LARGEST_DOCUMENT:
        reader.refuse(f"its document is larger than {_LARGEST_DOCUMENT >> 10} KiB")
    document = parse_line(reader.read(size), f"{_DOCUMENT} in {reader.name}")
    reader.expect(_padding(size))
    if document.get("format") != _FORMAT:
        raise UnikernelError(
            f"{reader.name} has the format {document.get('format')!r}, but this version of unikernel reads format {_FORMAT}. Export "
            "it again with this version."
        )
    try:
        parsed = _parse_document(document)
    except (TypeError, ValueError) as error:
        reader.refuse(f"its document is not valid ({error})")
    if parsed.ingredients.layout != KitFacts.layout:
        _refuse_layout(reader.name, parsed.ingredients.layout)
    if document["key"] != parsed.key:
        reader.refuse(f"its document has the cache key {document['key']!r}, but its ingredients come to {parsed.key}")
    _check_members(parsed.members, reader.name)
    return parsed


def _parse_document(document: dict[str, Any]) -> KitDocument:
    """Raises TypeError and ValueError."""
    _exactly(document, {"format", "key", *(item.name for item in fields(KitDocument))})
    ingredients = _exactly(document["ingredients"], {item.name for item in fields(KeyIngredients)})
    options, sources = ingredients["kernel_options"], ingredients["sources"]
    _all(_is_integer, [ingredients["layout"]])
    _all(_is_text, [document["key"], document["licenses"], *_list(options)])
    _all(_is_sha256, list(_exactly(sources, set(sources) if isinstance(sources, dict) else set()).values()))
    if not isinstance(document["development_key"], bool):
        raise ValueError("development_key is not true or false")
    members = []
    for item in _list(document["members"]):
        _exactly(item, {item.name for item in fields(Member)})
        _all(_is_text, [item["name"]])
        _all(_is_integer, [item["size"]])
        _all(_is_sha256, [item["sha256"]])
        members.append(Member(**item))
    return KitDocument(
        KeyIngredients(ingredients["layout"], tuple(options), dict(sorted(sources.items()))),
        document["development_key"],
        tuple(members),
        document["licenses"],
    )


def _exactly(value: Any, names: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"it does not have exactly {', '.join(sorted(names))}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.80} is not a list")
    return value


def _all(check: Callable[[Any], bool], values: list[Any]) -> None:
    for value in values:
        if not check(value):
            raise ValueError(f"{value!r:.80} is not what belongs there")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and is_cache_key(value)


def _check_members(members: tuple[Member, ...], name: str) -> None:
    if [member.name for member in members] != list(_MEMBERS):
        _refuse(name, f"its document does not list exactly {', '.join(_MEMBERS)}")
    for member in members:
        if not 0 < member.size <= _MEMBERS[member.name]:
            _refuse(name, f"{member.name!r} has {member.size} bytes, and may have 1 to {_MEMBERS[member.name]}")


def _facts(content: bytes, members: tuple[Member, ...], name: str) -> KitFacts:
    """The kit's own facts, which have to be about the members beside them."""
    sha256 = {member.name: member.sha256 for member in members}
    document = parse(content, f"{_FACTS} in {name}")
    try:
        _exactly(document, {item.name for item in fields(KitFacts)})
        facts = KitFacts(**document)
        _all(_is_text, [facts.version])
        _all(_is_integer, [facts.layout, facts.command_line_offset])
        _all(_is_sha256, [facts.config_sha256, facts.source_sha256, facts.sha256])
        _all(_is_text, list(_exactly(facts.tools, set(facts.tools)).values()))
    except (TypeError, ValueError) as error:
        _refuse(name, f"its {_FACTS} is not valid ({error})")
    parts = [sha256[_KERNEL], sha256[_LINKER_SCRIPT], sha256[_CONFIG]]
    # As `build_kit` records it.
    whole = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if facts.config_sha256 != sha256[_CONFIG] or facts.sha256 != whole:
        _refuse(name, f"its {_FACTS} is about another kit")
    return facts
