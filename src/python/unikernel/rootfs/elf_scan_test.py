from __future__ import annotations

from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.rootfs.elf_scan import follow, note_tls, scan_elf_files
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.testing.programs import (
    ET_CORE,
    for_another_machine,
    linked_program,
    of_another_type,
    program,
    shared_library,
    tiny_program,
)


def _scan(layer: Layer, roots: list[str] | None = None) -> tuple[LayerIndex, list[str]]:
    index = LayerIndex(layer.name, [])
    return index, sorted(scan_elf_files(layer, index, "x86_64", roots))


def test_a_program_and_its_library_beside_it(tmp_path: Path) -> None:
    library = shared_library(tmp_path / "liba.so.1.2", "a", soname="liba.so.1")
    layer = Layer("x")
    layer.add_file("/opt/app/lib/liba.so.1.2", library)
    layer.add_symlink("/opt/app/lib/liba.so.1", "liba.so.1.2")
    layer.add_file("/opt/app/bin/a", linked_program(tmp_path / "a", [library], "-Wl,-rpath,$ORIGIN/../lib"))
    index, found = _scan(layer, ["/opt/app/bin/a"])
    assert found == ["/opt/app/bin/a", "/opt/app/lib/liba.so.1.2"]
    assert index.needs == {"libc.so.6": "/opt/app/bin/a"}
    assert index.programs == {"/lib64/ld-linux-x86-64.so.2": "/opt/app/bin/a"}
    assert index.provides["liba.so.1"] == index.provides["liba.so.1.2"] == "/opt/app/lib/liba.so.1.2"


def test_a_library_needed_by_path(tmp_path: Path) -> None:
    library = shared_library(tmp_path / "libp.so.1", "p", soname="$ORIGIN/../lib/libp.so.1")
    layer = Layer("x")
    layer.add_file("/usr/bin/python", linked_program(tmp_path / "python", [library]))
    layer.add_file("/usr/lib/libp.so.1", library)
    index, found = _scan(layer)
    assert found == ["/usr/bin/python", "/usr/lib/libp.so.1"]
    assert index.needs == {"libc.so.6": "/usr/bin/python"}


def test_what_is_missing_inside_is_needed_from_outside(tmp_path: Path) -> None:
    inner = shared_library(tmp_path / "libinner.so", "inner")
    outer = shared_library(tmp_path / "libouter.so", "outer", needs=[inner])
    layer = Layer("x")
    layer.add_file("/app/a", linked_program(tmp_path / "a", [outer]))
    layer.add_file("/usr/lib/libouter.so", outer)
    index, _ = _scan(layer, ["/app/a"])
    assert index.needs == {"libinner.so": "/usr/lib/libouter.so", "libc.so.6": "/app/a"}


def test_a_library_for_another_machine_does_not_count(tmp_path: Path) -> None:
    library = shared_library(tmp_path / "liba.so", "a")
    layer = Layer("x")
    layer.add_file("/app/a", linked_program(tmp_path / "a", [library], "-Wl,-rpath,$ORIGIN"))
    layer.add_file("/app/liba.so", for_another_machine(library, tmp_path / "foreign.so"))
    index, found = _scan(layer, ["/app/a"])
    assert found == ["/app/a"]
    assert index.needs["liba.so"] == "/app/a"
    assert "liba.so" not in index.provides


def test_files_that_are_never_loaded_need_nothing(tmp_path: Path) -> None:
    unused = shared_library(tmp_path / "libunused.so", "u", needs=[shared_library(tmp_path / "libgone.so", "g")])
    tiny = tiny_program(tmp_path / "tiny")
    layer = Layer("x")
    layer.add_file("/app/tiny", tiny)
    layer.add_file("/app/libunused.so", unused)
    layer.add_file("/app/foreign", for_another_machine(tiny, tmp_path / "foreign"))
    assert _scan(layer, ["/app/tiny"])[0].needs == {}
    index, found = _scan(layer)
    assert index.needs == {"libgone.so": "/app/libunused.so"}
    assert found == ["/app/foreign", "/app/libunused.so", "/app/tiny"]


def test_a_foreign_root_is_refused(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_file("/app/tiny", for_another_machine(tiny_program(tmp_path / "tiny"), tmp_path / "foreign"))
    with pytest.raises(UnikernelError, match="/app/tiny is compiled for aarch64"):
        _scan(layer, ["/app/tiny"])


def test_malformed_files_matter_only_where_they_have_to_run(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_bytes("/tests/data/broken.so", b"\x7fELF and no more")
    layer.add_file("/tests/core", of_another_type(tiny_program(tmp_path / "tiny"), tmp_path / "core", ET_CORE))
    layer.add_bytes("/tests/text", b"\x7fEL")
    assert _scan(layer) == (LayerIndex("x", []), [])
    # By its path in the image, not by that of a scratch file.
    with pytest.raises(UnikernelError, match="^/tests/data/broken.so is not a well-formed ELF file"):
        _scan(layer, ["/tests/data/broken.so"])


def test_contents_in_memory_are_read_too(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_bytes("/bin/a", program(tmp_path / "a").read_bytes(), 0o755)
    assert _scan(layer)[0].needs == {"libc.so.6": "/bin/a"}


def test_an_object_file_needs_nothing(tmp_path: Path) -> None:
    layer = Layer("x")
    layer.add_file("/usr/lib/crt1.o", program(tmp_path / "a.o", "-c"))
    index, found = _scan(layer)
    assert (index.needs, index.provides, found) == ({}, {}, ["/usr/lib/crt1.o"])


def test_links_are_followed_in_every_component() -> None:
    layer = Layer("x")
    layer.add_symlink("/lib", "usr/lib")
    layer.add_symlink("/usr/lib/liba.so", "../share/./liba.so.1")
    layer.add_symlink("/usr/share/liba.so.1", "/opt/liba.so.1.2")
    layer.add_bytes("/opt/liba.so.1.2", b"")
    layer.add_symlink("/loop", "loop")
    assert follow(layer, "/lib/liba.so") == "/opt/liba.so.1.2"
    assert follow(layer, "/opt/none") == "/opt/none"
    assert follow(layer, "/loop") == "/loop"


def test_tls_is_noted_with_the_directory_of_its_certificates(tmp_path: Path) -> None:
    directory = tmp_path / "crypto"
    directory.mkdir()
    mark = 'const char mark[] = "OPENSSLDIR: \\"/opt/ssl\\"";'
    from unikernel.testing.programs import compile_c

    library = compile_c(directory / "libcrypto.so.3", mark, "-shared", "-fPIC", "-nostdlib")
    layer = Layer("x")
    layer.add_file("/usr/lib/libcrypto.so.3", library)
    layer.add_file("/usr/lib/another.so", library)
    layer.add_bytes("/usr/share/doc", mark.encode())
    index = LayerIndex("x", [])
    note_tls(layer, index, scan_elf_files(layer, index, "x86_64"))
    assert index.tls
    assert index.facts["openssl_directories"] == ["/opt/ssl"]
    quiet = LayerIndex("x", [])
    layer = Layer("x")
    layer.add_file("/tiny", tiny_program(tmp_path / "tiny"))
    note_tls(layer, quiet, scan_elf_files(layer, quiet, "x86_64"))
    assert not quiet.tls
