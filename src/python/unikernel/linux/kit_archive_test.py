from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from unikernel.errors import UnikernelError
from unikernel.linux.kit import Kit, KitFacts
from unikernel.linux.kit_archive import KitContents, Member, read_archive, write_archive
from unikernel.linux.kit_key import KeyIngredients, key_ingredients
from unikernel.signing.documents import serialize_line
from unikernel.testing.kits import exportable_kit


def _archive(directory: Path, ingredients: KeyIngredients | None = None, **facts: Any) -> bytes:
    kit, init = exportable_kit(directory, **facts)
    output = directory / "archive"
    write_archive(kit, init, ingredients or key_ingredients(["CONFIG_SMP=y"]), output, development_key=False)
    return output.read_bytes()


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    return _archive(tmp_path / "fixture")


def _read(content: bytes) -> KitContents:
    return read_archive(io.BytesIO(content), "a.kit")


def _refused(content: bytes, reason: str) -> None:
    with pytest.raises(UnikernelError) as caught:
        _read(content)
    message = str(caught.value)
    assert "a.kit" in message and reason in message and "\n" not in message, message


def _entries(archive: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar.getmembers()]  # type: ignore[union-attr]


def _pack(entries: list[tuple[tarfile.TarInfo, bytes]], end: bytes = bytes(1024)) -> bytes:
    """As tar writes them, whatever they are."""
    pieces = []
    for info, content in entries:
        pieces += [info.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % 512)]
    return b"".join(pieces) + end


def _with_document(archive: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    (info, content), *others = _entries(archive)
    document = json.loads(content)
    change(document)
    content = serialize_line(document)
    info.size = len(content)
    return _pack([(info, content), *others])


def test_what_was_written_is_read(tmp_path: Path) -> None:
    kit, init = exportable_kit(tmp_path)
    ingredients = key_ingredients(["CONFIG_SMP=y"])
    written = write_archive(kit, init, ingredients, tmp_path / "archive", development_key=True)
    output = tmp_path / "output"
    output.mkdir()
    with (tmp_path / "archive").open("rb") as stream:
        contents = read_archive(stream, "a.kit", lambda name: (output / name).open("wb"))
    assert contents.document == written
    assert contents.document.key == ingredients.key and contents.document.development_key
    assert contents.document.differences == []
    assert contents.facts == Kit.load(kit).facts == Kit.load(output).facts
    for name in ("init", "kernel.o", "vmlinux.lds", "kernel.config", "kit.json"):
        original = init if name == "init" else kit / name
        assert (output / name).read_bytes() == original.read_bytes()


def test_the_same_kit_gives_the_same_bytes(tmp_path: Path, archive: bytes) -> None:
    assert _archive(tmp_path / "again") == archive
    assert _pack(_entries(archive)) == archive
    for info, _ in _entries(archive):
        assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
        assert info.mode == (0o755 if info.name == "init" else 0o644)


def test_options_that_the_kernel_was_not_configured_with(tmp_path: Path) -> None:
    for number, option in enumerate(["CONFIG_SMP=n", "CONFIG_HZ=100"]):
        with pytest.raises(UnikernelError, match=f"was not configured with {option}"):
            _archive(tmp_path / str(number), key_ingredients([option]))
    assert _archive(tmp_path / "off", key_ingredients(["CONFIG_IPV6=n"]))


def test_a_kit_of_another_layout_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="has a kit of layout 1, but this version of unikernel links layout"):
        _archive(tmp_path, layout=1)


@pytest.mark.parametrize("name", ["kernel.o", "vmlinux.lds", "kernel.config"])
def test_a_kit_that_was_altered_is_not_exported(tmp_path: Path, name: str) -> None:
    kit, init = exportable_kit(tmp_path)
    with (kit / name).open("ab") as stream:
        stream.write(b"\n")
    with pytest.raises(UnikernelError, match="its kit.json is about another kit"):
        write_archive(kit, init, key_ingredients([]), tmp_path / "archive", development_key=False)


def test_what_is_no_kit_is_not_exported(tmp_path: Path) -> None:
    kit, init = exportable_kit(tmp_path)
    (kit / "kernel.o").unlink()
    with pytest.raises(UnikernelError, match="is not a kit that can be exported: .*kernel.o cannot be read"):
        write_archive(kit, init, key_ingredients([]), tmp_path / "archive", development_key=False)


# --- hostile archives ---


def test_what_is_no_archive() -> None:
    _refused(b"", "it ends too early")
    _refused(b"\x7fELF" + bytes(5000), "it does not start with kit-archive.json")


def test_every_truncation_is_refused(archive: bytes) -> None:
    for size in (*range(0, len(archive), 511), len(archive) - 1):
        _refused(archive[:size], "ends too early")


def test_bytes_after_the_end(archive: bytes) -> None:
    for more in (b"\0", archive):
        _refused(archive + more, "there is more after its end")


def test_a_member_with_other_content(archive: bytes) -> None:
    position = archive.index(b"kernelkernel")
    _refused(archive[:position] + b"K" + archive[position + 1 :], "its member 'kernel.o' has another SHA-256")


def test_padding_that_hides_something(archive: bytes) -> None:
    position = archive.index(b"PID 1") + 100
    _refused(archive[:position] + b"!" + archive[position + 1 :], "something else where there are only zeros")
    _refused(archive[:-1] + b"!", "something else where there are only zeros")


def test_a_further_member(archive: bytes) -> None:
    entries = _entries(archive)
    info = tarfile.TarInfo("evil")
    _refused(_pack([*entries, (info, b"")]), "something else where there are only zeros")
    _refused(_pack([*entries[:2], (info, b""), *entries[2:]]), "it has 'evil' where its document lists 'kernel.config'")
    _refused(_pack(entries[:-1]), "it has nothing where its document lists 'vmlinux.lds'")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_member_that_is_no_regular_file(archive: bytes, kind: bytes) -> None:
    entries = _entries(archive)
    info = tarfile.TarInfo("init")
    info.type, info.linkname = kind, "/etc/passwd"
    _refused(_pack([entries[0], (info, b""), *entries[2:]]), "where its document lists 'init' with 5 bytes")


@pytest.mark.parametrize("name", ["../init", "/init", "init/", "INIT"])
def test_a_member_by_another_name(archive: bytes, name: str) -> None:
    entries = _entries(archive)
    entries[1][0].name = name
    _refused(_pack(entries), "where its document lists 'init'")


@pytest.mark.parametrize("field", [b"77777777777\0", b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", b"            "])
def test_a_size_field_that_promises_too_much(archive: bytes, field: bytes) -> None:
    for header in (0, archive.index(b"init\0", 512)):
        content = bytearray(archive)
        content[header + 124 : header + 136] = field
        content[header + 148 : header + 156] = b" " * 8
        checksum = sum(content[header : header + 512])
        content[header + 148 : header + 156] = b"%06o\0 " % checksum
        with pytest.raises(UnikernelError):
            _read(bytes(content))


def test_a_document_that_is_too_large(archive: bytes) -> None:
    def grow(document: dict[str, Any]) -> None:
        document["licenses"] = "x" * (300 << 10)

    _refused(_with_document(archive, grow), "its document is larger than 256 KiB")


def test_a_member_that_is_too_large(archive: bytes) -> None:
    def grow(document: dict[str, Any]) -> None:
        document["members"][2]["size"] = 1 << 40

    _refused(_with_document(archive, grow), "'kernel.o' has 1099511627776 bytes, and may have 1 to")


def test_a_document_that_lists_other_members(archive: bytes) -> None:
    def further(document: dict[str, Any]) -> None:
        document["members"].append({"name": "../evil", "size": 1, "sha256": "00" * 32})

    def twice(document: dict[str, Any]) -> None:
        document["members"][1] = document["members"][0]

    for change in (further, twice):
        _refused(_with_document(archive, change), "its document does not list exactly init, kernel.config, kernel.o")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("development_key",), "no"),
        (("further",), 1),
        (("ingredients",), []),
        (("ingredients", "further"), 1),
        (("ingredients", "layout"), True),
        (("ingredients", "kernel_options"), "CONFIG_SMP=y"),
        (("ingredients", "kernel_options"), [1]),
        (("ingredients", "sources"), ["linux/kit.py"]),
        (("ingredients", "sources", "linux/kit.py"), "AB" * 32),
        (("members",), {}),
        (("members", 0), "init"),
        (("members", 0, "size"), -1),
        (("members", 0, "size"), 5.0),
        (("members", 0, "sha256"), "../x"),
        (("licenses",), None),
    ],
)
def test_a_document_of_another_shape(archive: bytes, path: tuple[Any, ...], value: Any) -> None:
    def change(document: Any) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    _refused(_with_document(archive, change), "its document is not valid")


def test_a_document_whose_key_is_not_that_of_its_ingredients(archive: bytes) -> None:
    def other(document: dict[str, Any]) -> None:
        document["ingredients"]["kernel_options"] = []

    _refused(_with_document(archive, other), "but its ingredients come to")


def test_another_layout_and_another_format(archive: bytes) -> None:
    def layout(document: dict[str, Any]) -> None:
        document["ingredients"]["layout"] = 1
        ingredients = document["ingredients"]
        document["key"] = KeyIngredients(1, tuple(ingredients["kernel_options"]), ingredients["sources"]).key

    def later(document: dict[str, Any]) -> None:
        document["format"] = 2

    _refused(
        _with_document(archive, layout), f"has a kit of layout 1, but this version of unikernel links layout {KitFacts.layout}"
    )
    _refused(_with_document(archive, later), "has the format 2, but this version of unikernel reads format 1")


def test_facts_about_another_kit(archive: bytes, tmp_path: Path) -> None:
    """Even where the document vouches for them."""
    entries = _entries(archive)
    facts = json.loads(entries[4][1])
    assert entries[4][0].name == "kit.json"
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"sha256": "00" * 32}, "is about another kit"),
        ({"config_sha256": "00" * 32}, "is about another kit"),
        ({"layout": 1}, "is for layout 1"),
        ({"command_line_offset": "7"}, "is not valid"),
        ({"further": 1}, "is not valid"),
        ({"tools": []}, "is not valid"),
    )
    for change, reason in wrong:
        content = json.dumps({**facts, **change}).encode()
        info = replace_size(entries[4][0], len(content))
        changed = _pack([*entries[:4], (info, content), entries[5]])

        def vouch(document: dict[str, Any], content: bytes = content) -> None:
            member = Member("kit.json", len(content), hashlib.sha256(content).hexdigest())
            document["members"][3] = dataclasses.asdict(member)

        _refused(_with_document(changed, vouch), reason)


def replace_size(info: tarfile.TarInfo, size: int) -> tarfile.TarInfo:
    changed = tarfile.TarInfo(info.name)
    changed.mode, changed.size = info.mode, size
    return changed


def test_what_another_version_asks_for(archive: bytes) -> None:
    document = _read(archive).document
    sources = {**document.ingredients.sources, "linux/kit.py": "00" * 32, "linux/kernel/new.c": "11" * 32}
    other = replace(document, ingredients=replace(document.ingredients, sources=sources))
    assert other.differences == ["linux/kernel/new.c", "linux/kit.py"]
