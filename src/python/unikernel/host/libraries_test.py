from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.host.libraries import LibrariesDescription, capture_libraries, describe_libraries
from unikernel.image.limits import check_needs
from unikernel.rootfs.elf_scan import scan_elf_files
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.testing.programs import linked_program, program, shared_library

LOADER = "/lib64/ld-linux-x86-64.so.2"
MUSL_LOADER = "/lib/ld-musl-x86_64.so.1"


def _captured(description: LibrariesDescription, tmp_path: Path) -> LayerIndex:
    layer, index = capture_libraries(description)
    layer.write(tmp_path / "libraries.cpio", index)
    return index


def test_a_program_of_this_machine_gets_its_c_library_and_loader(tmp_path: Path) -> None:
    application = Layer("application")
    application.add_file("/app/a", program(tmp_path / "a"))
    needs = LayerIndex("application", [])
    scan_elf_files(application, needs, "x86_64", ["/app/a"])
    application.write(tmp_path / "application.cpio", needs)
    with pytest.raises(UnikernelError, match="/app/a needs libc.so.6"):
        check_needs([needs])

    description = describe_libraries(needs.needs, needs.programs, (), "x86_64")
    assert LibrariesDescription.from_json(description.to_json()) == description
    index = _captured(description, tmp_path)
    check_needs([needs, index])
    files = {entry.path: entry for entry in index.entries}
    assert stat.S_IMODE(files[LOADER].mode) == 0o755
    directory = os.path.dirname(index.provides["libc.so.6"])
    assert f"{directory}/libgcc_s.so.1" in files
    components = {component.path: component for component in index.components}
    assert set(components) == {library.destination for library in description.libraries}
    libc = components[index.provides["libc.so.6"]]
    assert (libc.name, libc.sha256) == ("libc.so.6", files[libc.path].sha256)
    # On a machine whose packages dpkg knows.
    assert not shutil.which("dpkg-query") or libc.purl.startswith("pkg:deb/") and libc.version


def test_the_captured_libraries_run_the_program_without_a_cache(tmp_path: Path) -> None:
    # The loader of the image has nothing but its own directories: --inhibit-cache.
    executable = program(tmp_path / "a", "-lm", "-Wl,--no-as-needed", "-lstdc++")
    application = Layer("application")
    application.add_file("/app/a", executable)
    needs = LayerIndex("application", [])
    scan_elf_files(application, needs, "x86_64", ["/app/a"])
    description = describe_libraries(needs.needs, needs.programs, (), "x86_64")
    root = tmp_path / "root"
    for library in description.libraries:
        target = root / library.destination.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library.source, target)
    directories = {os.path.dirname(library.destination) for library in description.libraries if library.destination != LOADER}
    assert len(directories) == 1
    listed = subprocess.run([LOADER, "--help"], stdout=subprocess.PIPE, encoding="utf-8").stdout
    assert f"{directories.pop()} (system search path)" in listed
    searched = str(root / os.path.dirname(description.libraries[0].destination).lstrip("/"))
    command = [str(root / LOADER.lstrip("/")), "--inhibit-cache", "--library-path", searched, str(executable)]
    assert subprocess.run(command).returncode == 0


def test_every_missing_library_is_named_with_who_needs_it(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError) as caught:
        describe_libraries({"libnone.so.1": "/app/a", "libnil.so": "/app/b"}, {"/lib/ld-none.so": "/app/c"}, (), "x86_64", tmp_path)
    message = str(caught.value)
    for part in ("/app/a needs libnone.so.1", "/app/b needs libnil.so", "/app/c needs /lib/ld-none.so"):
        assert part in message


def test_what_other_layers_provide_is_not_taken(tmp_path: Path) -> None:
    library = shared_library(tmp_path / "usr/lib/liba.so", "a", needs=[shared_library(tmp_path / "x/libb.so", "b")])
    assert library.exists()
    description = describe_libraries({"liba.so": "/app/a"}, {}, ["libb.so"], "x86_64", tmp_path)
    assert [library.soname for library in description.libraries] == ["liba.so"]
    assert describe_libraries({"liba.so": "/app/a"}, {}, ["liba.so"], "x86_64", tmp_path).libraries == ()


def test_nothing_needed_is_an_empty_layer(tmp_path: Path) -> None:
    assert _captured(describe_libraries({}, {}, (), "x86_64"), tmp_path).entries == []


def test_a_program_of_musl_needs_its_loader_alone(tmp_path: Path) -> None:
    application = Layer("application")
    application.add_file("/app/a", program(tmp_path / "a", compiler="musl-gcc"))
    needs = LayerIndex("application", [])
    scan_elf_files(application, needs, "x86_64", ["/app/a"])
    assert (needs.needs, needs.programs) == ({}, {MUSL_LOADER: "/app/a"})
    description = describe_libraries(needs.needs, needs.programs, (), "x86_64")
    assert [library.destination for library in description.libraries] == [MUSL_LOADER]
    check_needs([needs, _captured(description, tmp_path)])


def test_musl_libraries_go_where_a_musl_loader_without_configuration_looks(tmp_path: Path) -> None:
    shared_library(tmp_path / "opt/musl/liba.so", "a")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld-musl-x86_64.path").write_text("/opt/musl\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / MUSL_LOADER.lstrip("/")).write_bytes(b"loader")
    description = describe_libraries({"liba.so": "/app/a"}, {MUSL_LOADER: "/app/a"}, (), "x86_64", tmp_path)
    assert [library.destination for library in description.libraries] == ["/lib/liba.so", MUSL_LOADER]


def test_a_library_needed_by_an_absolute_path_goes_there(tmp_path: Path) -> None:
    name = "/opt/vendor/liba.so.1"
    library = shared_library(tmp_path / name.lstrip("/"), "a", soname=name)
    application = Layer("application")
    application.add_file("/app/a", linked_program(tmp_path / "a", [library]))
    needs = LayerIndex("application", [])
    scan_elf_files(application, needs, "x86_64", ["/app/a"])
    assert needs.needs[name] == "/app/a"
    description = describe_libraries({name: "/app/a"}, {}, (), "x86_64", tmp_path)
    assert [library.destination for library in description.libraries] == [name]
    index = _captured(description, tmp_path)
    check_needs([LayerIndex("application", [], needs={name: "/app/a"}), index])


@pytest.mark.parametrize("tags", ["--disable-new-dtags", "--enable-new-dtags"])
def test_libraries_in_an_absolute_search_path_of_the_program_are_found_and_stay_there(tmp_path: Path, tags: str) -> None:
    vendor = tmp_path / "opt/vendor"
    inner = shared_library(vendor / "libinner.so", "inner")
    outer = shared_library(vendor / "libouter.so", "outer", "-Wl,-rpath,$ORIGIN", f"-Wl,{tags}", needs=[inner])
    application = Layer("application")
    flags = [f"-Wl,-rpath,$ORIGIN/lib:{vendor}", f"-Wl,{tags}"]
    application.add_file("/app/a", linked_program(tmp_path / "a", [outer], *flags))
    needs = LayerIndex("application", [])
    scan_elf_files(application, needs, "x86_64", ["/app/a"])
    name = "rpath" if tags == "--disable-new-dtags" else "runpath"
    assert needs.searched["libouter.so"][name] == [str(vendor)]
    with pytest.raises(UnikernelError, match="/app/a needs libouter.so"):
        describe_libraries(needs.needs, needs.programs, (), "x86_64")
    description = describe_libraries(needs.needs, needs.programs, (), "x86_64", searched=needs.searched)
    destinations = {library.soname: library.destination for library in description.libraries}
    assert destinations["libouter.so"] == str(vendor / "libouter.so")
    assert destinations["libinner.so"] == str(vendor / "libinner.so")
    assert destinations["libc.so.6"].startswith(("/lib", "/usr/lib"))
    check_needs([needs, _captured(description, tmp_path)])


def test_a_change_of_the_machine_after_the_description_is_noticed(tmp_path: Path) -> None:
    library = shared_library(tmp_path / "usr/lib/liba.so", "a")
    description = describe_libraries({"liba.so": "/app/a"}, {}, (), "x86_64", tmp_path)
    library.write_bytes(library.read_bytes() + b"changed")
    with pytest.raises(UnikernelError, match=r"usr/lib/liba\.so changed while it was captured"):
        capture_libraries(description)
    library.unlink()
    with pytest.raises(UnikernelError, match="changed while it was captured"):
        capture_libraries(description)
