from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from unikernel.elf import strip_elf
from unikernel.errors import UnikernelError
from unikernel.image.attachment import Section, append_sections
from unikernel.image.debug_file import (
    PROGRAMS_SECTION,
    build_id,
    check_debug_file,
    extract_programs,
    open_program,
    program_names,
    programs_with_symbols,
    write_debug_file,
)
from unikernel.image.link import link_with_symbols
from unikernel.image.manifest import read_manifest
from unikernel.image.spec import ImageSpec
from unikernel.linux.kit import Kit
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.testing.images import link_small_image, small_kit
from unikernel.testing.programs import program, shared_library


def _image(directory: Path, name: str = "image.elf") -> tuple[Path, Kit]:
    directory.mkdir(exist_ok=True)
    kit = small_kit(directory)
    link_small_image(directory, kit, name, ImageSpec(name))
    return directory / name, kit


def _debug_file(directory: Path, image: Path, kit: Kit, programs: dict[str, Path], name: str = "image.elf.debug") -> Path:
    scratch = directory / f"debug-{name}"
    scratch.mkdir()
    symbols = scratch / "kernel"
    link_with_symbols(image, kit, symbols, scratch, assembler="as", linker="ld")
    write_debug_file(image, directory / name, symbols=symbols, programs=programs, scratch=scratch)
    return directory / name


def _printed(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, encoding="utf-8").stdout


def _loaded(path: Path) -> list[tuple[str, ...]]:
    """Name, address and size of the sections that are in memory."""
    lines = [line[6:].split() for line in _printed("readelf", "-SW", path).splitlines() if line.startswith("  [")]
    return [(words[0], words[2], words[4]) for words in lines[1:] if int(words[2], 16)]


def test_it_has_the_kernels_symbols_at_their_addresses_and_the_images_build_id(tmp_path: Path) -> None:
    image, kit = _image(tmp_path)
    content = image.read_bytes()
    debug_file = _debug_file(tmp_path, image, kit, {})
    assert image.read_bytes() == content
    assert _loaded(debug_file) == _loaded(image) != []
    symbols = _printed("nm", debug_file)
    assert "0000000000200000 T _start" in symbols and " __unikernel_rootfs\n" in symbols
    assert "no symbols" in _printed("nm", image)
    # Both by ours and by everybody's.
    assert build_id(debug_file) == build_id(image)
    for file in (image, debug_file):
        assert f"Build ID: {build_id(image)}" in _printed("readelf", "-nW", file)
    assert read_manifest(debug_file) == read_manifest(image)
    check_debug_file(image, debug_file)


def test_programs_are_found_by_their_paths(tmp_path: Path) -> None:
    image, kit = _image(tmp_path)
    programs = {"/app/hello": program(tmp_path / "hello", "-g"), "/lib/libx.so": shared_library(tmp_path / "libx.so", "x", "-g")}
    debug_file = _debug_file(tmp_path, image, kit, programs)
    assert program_names(debug_file) == ["app/hello", "lib/libx.so"]
    extracted = extract_programs(debug_file, tmp_path / "programs")
    assert extracted == {name: tmp_path / "programs" / name for name in ("app/hello", "lib/libx.so")}
    assert "main" in _printed("nm", extracted["app/hello"])
    for name in ("app/hello", "/app/hello"):
        found = open_program(debug_file, name)
        assert found is not None
        with found:
            assert found.read() == extracted["app/hello"].read_bytes()
            assert found.seek(0) == 0
    assert open_program(debug_file, "app") is open_program(debug_file, "app/hell") is None
    again = _debug_file(tmp_path, image, kit, programs, "again.debug")
    assert again.read_bytes() == debug_file.read_bytes()


def test_the_programs_of_a_root_file_system_are_those_that_have_symbols(tmp_path: Path) -> None:
    whole, stripped = program(tmp_path / "whole"), tmp_path / "stripped"
    strip_elf("strip", whole, stripped)
    layer = Layer("application")
    for path, file in {"/app/a": stripped, "/app/b": stripped, "/app/c": whole}.items():
        layer.add_file(path, file, 0o755)
    layer.add_symlink("/app/link", "c")
    layer.add_bytes("/etc/text", b"text")
    layer.write(tmp_path / "application.cpio", LayerIndex("application", []))
    found = programs_with_symbols([tmp_path / "application.cpio"], {"/app/a": whole, "/app/none": whole}, tmp_path)
    # Stripped in the build; stripped by its maker; laid out as it is.
    assert sorted(found) == ["/app/a", "/app/c"]
    assert {path.read_bytes() for path in found.values()} == {whole.read_bytes()}


def test_a_file_of_another_image_is_refused_with_both_build_ids(tmp_path: Path) -> None:
    image, kit = _image(tmp_path)
    other, _ = _image(tmp_path / "other", "other.elf")
    debug_file = _debug_file(tmp_path, image, kit, {})
    with pytest.raises(UnikernelError, match="image.elf.debug is the debug file of another image: its build id is") as error:
        check_debug_file(other, debug_file)
    assert build_id(image) in str(error.value) and build_id(other) in str(error.value)


def test_symbols_are_taken_from_the_images_own_kit_only(tmp_path: Path) -> None:
    image, kit = _image(tmp_path)
    other = Kit(kit.root, replace(kit.facts, sha256="another"))
    with pytest.raises(UnikernelError, match="is linked with another kit than .*: its symbols would be at other addresses"):
        link_with_symbols(image, other, tmp_path / "symbols", tmp_path, assembler="as", linker="ld")


def test_nothing_to_debug_with_is_an_error(tmp_path: Path) -> None:
    image, _ = _image(tmp_path)
    with pytest.raises(UnikernelError, match="nothing to debug image.elf with: neither image.elf nor a program in it has symbols"):
        write_debug_file(image, tmp_path / "debug", symbols=image, programs={}, scratch=tmp_path)


def test_what_is_no_debug_file_is_an_error(tmp_path: Path) -> None:
    image, _ = _image(tmp_path)
    text = tmp_path / "text"
    text.write_text("text")
    with pytest.raises(UnikernelError, match="image.elf has no section .unikernel.debug"):
        open_program(image, "app/hello")
    with pytest.raises(UnikernelError, match="text is no unikernel image"):
        extract_programs(text, tmp_path)
    damaged = tmp_path / "damaged"
    append_sections(image, [Section(PROGRAMS_SECTION, "SHT_PROGBITS", b"x" * 512)], damaged)
    with pytest.raises(UnikernelError, match="The programs in .*damaged cannot be read"):
        program_names(damaged)


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/../../escaped", "a//b", "."])
def test_nothing_is_written_outside_of_the_directory(tmp_path: Path, name: str) -> None:
    image, _ = _image(tmp_path)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    debug_file = tmp_path / "debug"
    append_sections(image, [Section(PROGRAMS_SECTION, "SHT_PROGBITS", archive.getvalue())], debug_file)
    directory = tmp_path / "directory"
    directory.mkdir()
    with pytest.raises(UnikernelError, match="which is no path of a program"):
        extract_programs(debug_file, directory)
    assert list(directory.rglob("*")) == []
