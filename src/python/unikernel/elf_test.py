from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from unikernel.elf import ElfKind, is_elf, loaded_notes, openssl_directory, read_elf, read_elf_file, speaks_tls
from unikernel.errors import UnikernelError
from unikernel.testing.hypervisors import pvh_image
from unikernel.testing.programs import (
    ET_CORE,
    compile_c,
    for_another_machine,
    linked_program,
    of_another_type,
    program,
    shared_library,
    tiny_program,
)


def test_a_static_program(tmp_path: Path) -> None:
    for facts in (
        read_elf_file(program(tmp_path / "glibc", "-static")),
        read_elf_file(program(tmp_path / "musl", "-static", compiler="musl-gcc")),
    ):
        assert (facts.kind, facts.machine, facts.bits) == (ElfKind.STATIC, "x86_64", 64)
        assert (facts.interpreter, facts.needed) == (None, ())


def test_a_static_pie(tmp_path: Path) -> None:
    facts = read_elf_file(program(tmp_path / "a", "-static-pie"))
    assert (facts.kind, facts.interpreter, facts.needed) == (ElfKind.STATIC_PIE, None, ())


def test_what_only_claims_to_be_a_static_pie(tmp_path: Path) -> None:
    # Debian's musl-gcc makes a dynamic program of it.
    facts = read_elf_file(program(tmp_path / "a", "-static-pie", compiler="musl-gcc"))
    assert (facts.kind is ElfKind.DYNAMIC) == (facts.interpreter is not None)


@pytest.mark.parametrize("flag", ["-pie", "-no-pie"])
def test_a_dynamic_program(tmp_path: Path, flag: str) -> None:
    facts = read_elf_file(program(tmp_path / "a", flag))
    assert (facts.kind, facts.needed) == (ElfKind.DYNAMIC, ("libc.so.6",))
    assert facts.interpreter == "/lib64/ld-linux-x86-64.so.2"


def test_a_dynamic_program_of_musl(tmp_path: Path) -> None:
    facts = read_elf_file(program(tmp_path / "a", compiler="musl-gcc"))
    assert (facts.kind, facts.interpreter) == (ElfKind.DYNAMIC, "/lib/ld-musl-x86_64.so.1")


def test_a_shared_library(tmp_path: Path) -> None:
    other = shared_library(tmp_path / "libother.so.2", "other")
    facts = read_elf_file(shared_library(tmp_path / "libone.so", "one", soname="libone.so.1", needs=[other]))
    assert (facts.kind, facts.soname, facts.needed) == (ElfKind.SHARED_LIBRARY, "libone.so.1", ("libother.so.2",))


def test_a_library_that_can_be_run_is_a_library(tmp_path: Path) -> None:
    # As libc.so.6 is.
    library = compile_c(
        tmp_path / "librun.so.1",
        'const char loader[] __attribute__((section(".interp"))) = "/lib64/ld-linux-x86-64.so.2"; void start(void) {}',
        *("-shared", "-fPIC", "-nostdlib", "-Wl,-e,start", "-Wl,-soname,librun.so.1"),
    )
    facts = read_elf_file(library)
    assert facts.interpreter is not None
    assert facts.kind is ElfKind.SHARED_LIBRARY


def test_an_object_file(tmp_path: Path) -> None:
    assert read_elf_file(program(tmp_path / "a.o", "-c")).kind is ElfKind.OBJECT


def test_rpath_and_runpath(tmp_path: Path) -> None:
    old = read_elf_file(program(tmp_path / "old", "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib:/opt/lib"))
    assert (old.rpath, old.runpath) == (("$ORIGIN/../lib", "/opt/lib"), ())
    new = read_elf_file(program(tmp_path / "new", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib::/opt/lib"))
    assert (new.rpath, new.runpath) == ((), ("$ORIGIN/../lib", "/opt/lib"))


def test_a_foreign_machine_is_named_as_uname_does(tmp_path: Path) -> None:
    tiny = tiny_program(tmp_path / "tiny")
    names = {183: "aarch64", 243: "riscv64", 62: "x86_64", 40: "arm"}
    assert {number: read_elf_file(for_another_machine(tiny, tmp_path / "f", number)).machine for number in names} == names


def test_a_32_bit_header(tmp_path: Path) -> None:
    source = tmp_path / "a.s"
    source.write_text(".globl _start\n_start: ret\n")
    facts = read_elf_file(compile_c(tmp_path / "a.o", "int x;\n", "-m32", "-c"))
    assert (facts.bits, facts.machine) == (32, "i386")


def test_a_core_dump_is_named(tmp_path: Path) -> None:
    core = of_another_type(tiny_program(tmp_path / "tiny"), tmp_path / "core.123", ET_CORE)
    with pytest.raises(UnikernelError, match=r"core\.123 .*ET_CORE is nothing that can be run"):
        read_elf_file(core)


def test_only_files_that_begin_as_elf_are_elf(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"\x7fE")
    (tmp_path / "empty").write_bytes(b"")
    assert not is_elf(tmp_path / "short")
    assert not is_elf(tmp_path / "empty")
    assert is_elf(tiny_program(tmp_path / "tiny"))


@pytest.mark.parametrize("length", [4, 5, 16, 40, 63, 64, 100, 200])
def test_a_truncated_file_is_malformed(tmp_path: Path, length: int) -> None:
    data = program(tmp_path / "a").read_bytes()
    with pytest.raises(UnikernelError, match="^data/broken is not a well-formed ELF file: ."):
        read_elf(io.BytesIO(data[:length]), "data/broken")


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    library = shared_library(tmp_path / "liba.so", "a")
    whole = linked_program(tmp_path / "a", [library], "-Wl,-rpath,/opt").read_bytes()
    chance = random.Random(1)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        # The headers and the dynamic section are where it hurts.
        for _ in range(chance.randrange(1, 8)):
            data[
                chance.choice((chance.randrange(5, 64), chance.randrange(64, 1200), chance.randrange(len(data))))
            ] = chance.randrange(256)
        try:
            read_elf(io.BytesIO(bytes(data)), "damaged")
        except UnikernelError as error:
            refused += 1
            assert str(error).startswith("damaged ")
    assert refused > 0


def test_what_speaks_tls(tmp_path: Path) -> None:
    openssl = tmp_path / "libcrypto.so"
    openssl.write_bytes(b"\0" * 100 + b'OPENSSLDIR: "/usr/lib/ssl"\0more "quotes"')
    go = tmp_path / "go"
    go.write_bytes(b"...\0/etc/ssl/certs/ca-certificates.crt\0")
    plain = tmp_path / "plain"
    plain.write_bytes(b"OPENSSLDIR is not what it has")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert [speaks_tls(path) for path in (openssl, go, plain, empty)] == [True, True, False, False]
    assert [openssl_directory(path) for path in (openssl, go, plain, empty)] == ["/usr/lib/ssl", None, None, None]


def test_an_openssl_directory_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'OPENSSLDIR: "' + b"\xff" * 5 + b'"')
    assert openssl_directory(path) == "\ufffd" * 5
    path.write_bytes(b'OPENSSLDIR: "' + b"a" * 5000 + b'"')
    assert openssl_directory(path) is None


def test_types_of_an_owners_notes_are_numbers_whatever_they_mean_to_others(tmp_path: Path) -> None:
    image = pvh_image(tmp_path / "a.elf", notes=[1, 3, 6, 18, 18])
    assert loaded_notes(image, "Xen") == {1, 3, 6, 18}
    assert loaded_notes(image, "unikernel") == {0x554E4931}
    assert loaded_notes(image, "GNU") == set()


def test_notes_of_a_damaged_file_are_an_error(tmp_path: Path) -> None:
    image = pvh_image(tmp_path / "a.elf")
    (tmp_path / "b.elf").write_bytes(image.read_bytes()[:100])
    with pytest.raises(UnikernelError, match="b.elf is not a well-formed ELF file"):
        loaded_notes(tmp_path / "b.elf", "Xen")
