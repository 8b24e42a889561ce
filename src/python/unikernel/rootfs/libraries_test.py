from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from unikernel.elf import ElfFacts, ElfKind, read_elf_file
from unikernel.errors import UnikernelError
from unikernel.rootfs.libraries import (
    Closure,
    check_machine,
    close_over,
    default_directories,
    expand_search_path,
    library_directory,
    opened_by_glibc,
    provided_by_loader,
)
from unikernel.testing.programs import (
    compile_c,
    for_another_machine,
    linked_program,
    program,
    shared_library,
    tiny_program,
)

GLIBC_LOADER = "/lib64/ld-linux-x86-64.so.2"


@pytest.fixture()
def root(tmp_path: Path) -> Path:
    """A file system without libraries."""
    return tmp_path / "root"


def _place(root: Path, path: str, library: Path) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(library, target)
    return target


def _close(root: Path, executable: Path, at: str, loader: str = GLIBC_LOADER) -> Closure:
    """What a program needs that is at the path `at` of the file system."""
    facts = read_elf_file(executable)
    return close_over([(soname, at, facts) for soname in facts.needed], ["libc.so.6"], "x86_64", loader, root)


def _paths(closure: Closure) -> dict[str, str]:
    return {soname: library.path for soname, library in closure.libraries.items()}


def test_libraries_of_libraries_are_found_in_the_default_directories(tmp_path: Path, root: Path) -> None:
    inner = shared_library(tmp_path / "libinner.so.1", "inner")
    outer = shared_library(tmp_path / "libouter.so.1", "outer", needs=[inner])
    _place(root, "/usr/lib/x86_64-linux-gnu/libinner.so.1", inner)
    _place(root, "/usr/lib/libouter.so.1", outer)
    closure = _close(root, linked_program(tmp_path / "a", [outer]), "/app/a")
    assert _paths(closure) == {
        "libouter.so.1": "/usr/lib/libouter.so.1",
        "libinner.so.1": "/usr/lib/x86_64-linux-gnu/libinner.so.1",
    }
    assert closure.missing == {}
    assert closure.libraries["libouter.so.1"].real_path == str(root / "usr/lib/libouter.so.1")


def test_a_missing_library_is_named_with_what_needs_it(tmp_path: Path, root: Path) -> None:
    inner = shared_library(tmp_path / "libinner.so.1", "inner")
    outer = shared_library(tmp_path / "libouter.so.1", "outer", needs=[inner])
    _place(root, "/usr/lib/libouter.so.1", outer)
    closure = _close(root, linked_program(tmp_path / "a", [outer]), "/app/a")
    assert closure.missing == {"libinner.so.1": "/usr/lib/libouter.so.1"}


def test_runpath_comes_before_the_defaults_and_is_not_inherited(tmp_path: Path, root: Path) -> None:
    inner = shared_library(tmp_path / "libinner.so", "inner")
    outer = shared_library(tmp_path / "libouter.so", "outer", needs=[inner])
    for directory in ("/app/lib", "/usr/lib"):
        _place(root, f"{directory}/libouter.so", outer)
    _place(root, "/app/lib/libinner.so", inner)
    executable = linked_program(tmp_path / "a", [outer], "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../lib")
    closure = _close(root, executable, "/app/bin/a")
    assert _paths(closure) == {"libouter.so": "/app/lib/libouter.so"}
    assert closure.missing == {"libinner.so": "/app/lib/libouter.so"}


def test_rpath_is_inherited_by_what_is_loaded(tmp_path: Path, root: Path) -> None:
    inner = shared_library(tmp_path / "libinner.so", "inner")
    middle = shared_library(tmp_path / "libmiddle.so", "middle", needs=[inner])
    outer = shared_library(tmp_path / "libouter.so", "outer", needs=[middle])
    for library in (inner, middle, outer):
        _place(root, f"/app/lib/{library.name}", library)
    executable = linked_program(tmp_path / "a", [outer], "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib")
    closure = _close(root, executable, "/app/bin/a")
    assert sorted(closure.libraries) == ["libinner.so", "libmiddle.so", "libouter.so"]
    # What has a RUNPATH of its own does not look there (ld.so(8)).
    _place(
        root,
        "/app/lib/libmiddle.so",
        shared_library(tmp_path / "x/libmiddle.so", "m", "-Wl,--enable-new-dtags,-rpath,/no", needs=[inner]),
    )
    assert _close(root, executable, "/app/bin/a").missing == {"libinner.so": "/app/lib/libmiddle.so"}


def test_a_needed_name_with_a_slash_is_a_path(tmp_path: Path, root: Path) -> None:
    # python-build-standalone's interpreters need "$ORIGIN/../lib/libpython3.X.so.1.0".
    library = shared_library(tmp_path / "libp.so.1", "p", soname="$ORIGIN/../lib/libp.so.1")
    _place(root, "/usr/lib/libp.so.1", library)
    _place(root, "/opt/python/lib/libp.so.1", library)
    executable = linked_program(tmp_path / "python", [library])
    closure = _close(root, executable, "/opt/python/bin/python")
    assert _paths(closure) == {"$ORIGIN/../lib/libp.so.1": "/opt/python/lib/libp.so.1"}
    assert list(_close(root, executable, "/elsewhere/bin/python").missing) == ["$ORIGIN/../lib/libp.so.1"]


def test_a_library_for_another_machine_is_passed_over(tmp_path: Path, root: Path) -> None:
    library = shared_library(tmp_path / "liba.so", "a")
    for_another_machine(library, root / "lib64/liba.so")
    _place(root, "/lib/liba.so", library)
    assert _paths(_close(root, linked_program(tmp_path / "a", [library]), "/a")) == {"liba.so": "/lib/liba.so"}


def test_a_linker_script_is_no_library(tmp_path: Path, root: Path) -> None:
    # /usr/lib/x86_64-linux-gnu/libc.so is text.
    library = shared_library(tmp_path / "liba.so", "a")
    _place(root, "/lib/x86_64-linux-gnu/liba.so", library).write_text("GROUP ( /lib/liba.so.1 )")
    assert _close(root, linked_program(tmp_path / "a", [library]), "/app/a").missing == {"liba.so": "/app/a"}


def test_ld_so_conf_comes_before_what_is_compiled_in(root: Path) -> None:
    (root / "etc/ld.so.conf.d").mkdir(parents=True)
    (root / "etc/ld.so.conf").write_text("include ld.so.conf.d/*.conf # all of them\n\n/opt/last\n")
    (root / "etc/ld.so.conf.d/b.conf").write_text("/lib/x86_64-linux-gnu\n")
    (root / "etc/ld.so.conf.d/a.conf").write_text("# comment\n/usr/local/lib\n")
    (root / "etc/ld.so.conf.d/ignored").write_text("/ignored\n")
    directories = default_directories("x86_64", root)
    assert directories[:3] == ["/usr/local/lib", "/lib/x86_64-linux-gnu", "/opt/last"]
    assert "/usr/lib" in directories
    assert "/ignored" not in directories
    assert len(directories) == len(set(directories))


def test_musl_has_directories_of_its_own(root: Path) -> None:
    loader = "/lib/ld-musl-x86_64.so.1"
    assert default_directories("x86_64", root, loader)[:3] == ["/lib", "/usr/local/lib", "/usr/lib"]
    (root / "etc").mkdir(parents=True)
    (root / "etc/ld-musl-x86_64.path").write_text("/a:/b\n/c\n")
    assert default_directories("x86_64", root, loader) == ["/a", "/b", "/c"]


def test_the_loader_brings_itself_and_musls_brings_the_c_library() -> None:
    musl = "/lib/ld-musl-x86_64.so.1"
    assert provided_by_loader("ld-linux-x86-64.so.2", GLIBC_LOADER)
    assert provided_by_loader("libc.so", musl)
    assert provided_by_loader("libc.musl-x86_64.so.1", musl)
    assert not provided_by_loader("libc.so.6", GLIBC_LOADER)
    assert not provided_by_loader("libc.so", GLIBC_LOADER)
    assert not provided_by_loader("libcrypto.so.3", musl)


def test_a_musl_program_needs_nothing_but_its_loader(tmp_path: Path, root: Path) -> None:
    assert _close(root, program(tmp_path / "a", compiler="musl-gcc"), "/a", "/lib/ld-musl-x86_64.so.1") == Closure()


@pytest.mark.parametrize(
    ("entry", "expanded"),
    [
        ("$ORIGIN/../lib", "/app/lib"),
        ("${ORIGIN}", "/app/bin"),
        ("/opt/$LIB/x", "/opt/lib/x86_64-linux-gnu/x"),
        ("/opt/${PLATFORM}", "/opt/x86_64"),
        ("/opt/plain/", "/opt/plain"),
    ],
)
def test_tokens_of_search_paths(entry: str, expanded: str) -> None:
    assert expand_search_path(entry, "/app/bin", "x86_64") == expanded


def test_libgcc_comes_with_the_c_library(tmp_path: Path, root: Path) -> None:
    # pthread_exit() and pthread_cancel() abort without it.
    libc = shared_library(tmp_path / "libc.so.6", "c")
    gcc = shared_library(tmp_path / "libgcc_s.so.1", "g")
    facts = read_elf_file(program(tmp_path / "a"))
    _place(root, "/lib/x86_64-linux-gnu/libc.so.6", libc)

    def sonames() -> list[str]:
        return sorted(close_over([("libc.so.6", "/a", facts)], (), "x86_64", GLIBC_LOADER, root).libraries)

    assert sonames() == ["libc.so.6"], "where there is no libgcc_s, nobody asked for it"
    _place(root, "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1", gcc)
    assert sonames() == ["libc.so.6", "libgcc_s.so.1"]


@pytest.mark.parametrize(("version", "opened"), [("2.31", True), ("2.33", True), ("2.34", False), ("2.36", False), ("3.0", False)])
def test_name_services_are_taken_along_where_the_c_library_does_not_have_them(tmp_path: Path, version: str, opened: bool) -> None:
    banner = f"GNU C Library (Debian GLIBC {version}-9) stable release version {version}."
    libc = compile_c(tmp_path / "libc.so.6", f'const char banner[] = "{banner}\\n";', "-shared", "-fPIC", "-nostdlib")
    assert ({"libnss_dns.so.2", "libnss_files.so.2"} <= set(opened_by_glibc(libc))) == opened


def test_this_machines_c_library_says_its_version() -> None:
    asking = ElfFacts(ElfKind.DYNAMIC, "x86_64", 64, GLIBC_LOADER, None, (), (), ())
    libc = close_over([("libc.so.6", "/a", asking)], (), "x86_64", GLIBC_LOADER).libraries["libc.so.6"]
    assert b" release version 2." in Path(libc.real_path).read_bytes()


def _file_system(tmp_path: Path, root: Path, libc: str, compiled_in: tuple[str, ...]) -> None:
    """A distribution with its C library at `libc`, and a loader that searches `compiled_in`."""
    source = f'const char loader[] __attribute__((section(".interp"))) = "{GLIBC_LOADER}"; void start(void) {{}}'
    library = compile_c(tmp_path / "libc.so.6", source, "-shared", "-fPIC", "-nostdlib", "-Wl,-e,start", "-Wl,-soname,libc.so.6")
    _place(root, libc, library)
    loader = _place(root, GLIBC_LOADER, library)
    loader.write_bytes(loader.read_bytes() + b"\0" + b"".join(f"{directory}/\0".encode() for directory in compiled_in))


@pytest.mark.parametrize(
    ("libc", "compiled_in", "directory"),
    [
        (
            "/lib/x86_64-linux-gnu/libc.so.6",
            ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib"),
            "/lib/x86_64-linux-gnu",
        ),
        ("/lib64/libc.so.6", ("/lib64", "/usr/lib64"), "/lib64"),
        # Arch Linux: /lib64 is a link to /usr/lib, and the loader does not know it by that name.
        ("/lib64/libc.so.6", ("/usr/lib",), "/usr/lib"),
    ],
)
@pytest.mark.parametrize("libc_is_in_this_layer", [True, False])
def test_libraries_go_where_the_loader_looks_without_a_cache(
    tmp_path: Path, root: Path, libc: str, compiled_in: tuple[str, ...], directory: str, libc_is_in_this_layer: bool
) -> None:
    _file_system(tmp_path, root, libc, compiled_in)
    asking = read_elf_file(program(tmp_path / "a"))
    closure = close_over([("libc.so.6", "/a", asking)], (), "x86_64", GLIBC_LOADER, root) if libc_is_in_this_layer else Closure()
    assert library_directory(closure, GLIBC_LOADER, "x86_64", root) == directory
    # A layer of shared libraries alone asks for no loader: the C library's is meant.
    assert library_directory(closure, None, "x86_64", root) == directory


def test_the_directory_of_this_machines_libraries_is_compiled_into_its_loader() -> None:
    directory = library_directory(Closure(), GLIBC_LOADER, "x86_64")
    assert f"{directory}/\0".encode() in Path(GLIBC_LOADER).read_bytes()


def test_without_a_c_library_the_directory_is_one_that_loaders_know(root: Path) -> None:
    assert library_directory(Closure(), GLIBC_LOADER, "x86_64", root) == "/usr/lib"
    assert library_directory(Closure(), "/lib/ld-musl-x86_64.so.1", "x86_64", root) == "/lib"


def test_a_foreign_program_is_refused_by_name(tmp_path: Path) -> None:
    tiny = tiny_program(tmp_path / "tiny")
    check_machine(read_elf_file(tiny), "tiny", "x86_64")
    foreign = read_elf_file(for_another_machine(tiny, tmp_path / "foreign"))
    with pytest.raises(UnikernelError, match=r"^server is compiled for aarch64 \(64 bits\), but the image is for x86_64"):
        check_machine(foreign, "server", "x86_64")


def test_facts_are_compared_with_bits(tmp_path: Path) -> None:
    facts = read_elf_file(tiny_program(tmp_path / "tiny"))
    narrow = ElfFacts(facts.kind, facts.machine, 32, None, None, (), (), ())
    with pytest.raises(UnikernelError, match="32 bits"):
        check_machine(narrow, "x32", "x86_64")
