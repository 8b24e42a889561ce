from __future__ import annotations

import io
import stat

import pytest

from unikernel.rootfs.cpio import PAGE, TRAILER, CpioEntry, CpioWriter, read_cpio, read_cpio_bytes

_FILE = stat.S_IFREG | 0o644
_HEADER = 110


def _archive(*entries: tuple[str, int, bytes]) -> bytes:
    stream = io.BytesIO()
    writer = CpioWriter(stream)
    for path, mode, content in entries:
        writer.add(path, mode, io.BytesIO(content), len(content))
    writer.close()
    return stream.getvalue()


def test_entries_come_back_in_the_order_they_were_written() -> None:
    entries = [
        ("etc", stat.S_IFDIR | 0o755, b""),
        ("etc/b", _FILE, b"bee\n"),
        ("etc/a", stat.S_IFREG | 0o4755, bytes(range(256)) * 17),
        ("link", stat.S_IFLNK | 0o777, b"etc/a"),
        ("empty", _FILE, b""),
    ]
    read = read_cpio_bytes(_archive(*entries))
    assert [(entry.path, entry.mode, content) for entry, content in read] == entries
    assert all(entry.size == len(content) for entry, content in read)


@pytest.mark.parametrize("size", range(1, 9))
def test_every_header_begins_at_a_multiple_of_four_bytes(size: int) -> None:
    data = _archive(("n" * size, stat.S_IFLNK | 0o777, b"x" * size), ("second", _FILE, b""))
    second = data.index(b"070701", 1)
    assert second % 4 == 0
    assert len(data) % 4 == 0
    assert data[_HEADER + size] == 0
    # Padding is zeros, so that the same entries give the same bytes.
    content = data.index(b"x" * size, _HEADER + size)
    assert content % 4 == 0
    assert data[content + size : second] == bytes(second - content - size)


# 4092 and more leave no room for padding in the longest name that the kernel takes.
@pytest.mark.parametrize("length", [1, 100, 2000, 3000, 3984, 3985, 3986, 3987, 4000, 4091, 4092, 4093, 4094, 4095])
@pytest.mark.parametrize("before", [0, 1, 4, 5, 100, 3870])
def test_the_data_of_each_file_begins_at_a_page(length: int, before: int) -> None:
    name = "n" * length
    data = _archive(("b" * before, _FILE, b""), (name, _FILE, b"content"), ("c", _FILE, b"more"))
    assert data.index(b"content") % PAGE == 0
    assert data.index(b"more") % PAGE == 0
    assert [(entry.path, content) for entry, content in read_cpio_bytes(data)][1:] == [(name, b"content"), ("c", b"more")]
    # PATH_MAX: the kernel skips an entry with a longer name, with its NULs.
    position = 0
    while position < len(data):
        size, name_size = (int(data[position + start : position + start + 8], 16) for start in (54, 94))
        assert 0 < name_size <= 4096
        position += -(-(_HEADER + name_size) // 4) * 4 + -(-size // 4) * 4


def test_the_header_has_the_fields_that_the_kernel_reads() -> None:
    stream = io.BytesIO()
    CpioWriter(stream).add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    data = stream.getvalue()
    fields = [int(data[start : start + 8], 16) for start in range(6, _HEADER, 8)]
    assert data[:6] == b"070701"
    assert fields[1] == stat.S_IFCHR | 0o600
    assert fields[2:5] == [0, 0, 1], "owner and group are root, one link"
    assert fields[6] == 0
    assert fields[9:11] == [5, 1]
    assert fields[11] == len("dev/console") + 1
    assert data[_HEADER:] == b"dev/console\0" + bytes(-len(data[: _HEADER + 12]) % 4)


def test_a_device_node_comes_back() -> None:
    stream = io.BytesIO()
    writer = CpioWriter(stream)
    writer.add("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
    writer.close()
    assert read_cpio_bytes(stream.getvalue()) == [(CpioEntry("dev/null", stat.S_IFCHR | 0o666, 0, (1, 3)), b"")]


def test_an_owner_comes_back() -> None:
    stream = io.BytesIO()
    writer = CpioWriter(stream)
    writer.add("home", stat.S_IFDIR | 0o700, owner=(1000, 2**32 - 2))
    writer.add("home/file", _FILE, io.BytesIO(b"content"), 7, owner=(0, 5))
    writer.close()
    read = {entry.path: entry.owner for entry, _ in read_cpio_bytes(stream.getvalue())}
    assert read == {"home": (1000, 2**32 - 2), "home/file": (0, 5)}


def test_names_that_are_long_or_not_utf8_come_back() -> None:
    names = ["d/" * 1500 + "deep", "grüße-日本", b"latin-\xe9".decode("utf-8", "surrogateescape")]
    read = read_cpio_bytes(_archive(*((name, _FILE, name.encode("utf-8", "surrogateescape")) for name in names)))
    assert [entry.path for entry, _ in read] == names


def test_the_same_entries_give_the_same_bytes() -> None:
    entries = [("a", _FILE, b"1"), ("b", _FILE, b"22")]
    assert _archive(*entries) == _archive(*entries)
    assert _archive(*entries) != _archive(*reversed(entries))


def test_archives_follow_one_another() -> None:
    stream = io.BytesIO(_archive(("a", _FILE, b"1")) + _archive(("b", _FILE, b"2")))
    assert [entry.path for entry, _ in read_cpio(stream)] == ["a"]
    assert [entry.path for entry, _ in read_cpio(stream)] == ["b"]
    assert stream.read() == b""


def test_an_empty_archive_is_a_trailer() -> None:
    data = _archive()
    assert read_cpio_bytes(data) == []
    assert TRAILER.encode() in data


@pytest.mark.parametrize("length", [0, 50, _HEADER, _HEADER + 3, PAGE - 1, PAGE + 5])
def test_a_truncated_archive_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="truncated"):
        read_cpio_bytes(_archive(("name", _FILE, b"content"))[:length])


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="not a newc"):
        read_cpio_bytes(b"070707" + bytes(200))


@pytest.mark.parametrize(("content", "change"), [(b"123", "shorter"), (b"12345", "longer")])
def test_a_file_that_changes_while_it_is_read_does_not_damage_the_archive(content: bytes, change: str) -> None:
    with pytest.raises(ValueError, match=f"a became {change}"):
        CpioWriter(io.BytesIO()).add("a", _FILE, io.BytesIO(content), 4)
