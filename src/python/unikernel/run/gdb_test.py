from __future__ import annotations

import subprocess
from pathlib import Path

from unikernel.image.manifest import read_manifest
from unikernel.image.manifest_pb2 import LibraryOs, Manifest, Start
from unikernel.image.spec import ImageSpec
from unikernel.run.gdb import gdb_command
from unikernel.testing.images import link_small_image, small_kit
from unikernel.testing.programs import program, shared_library


def _manifest(name: str = "linux", program: str = "/app/hello", architecture: str = "x86_64") -> Manifest:
    return Manifest(architecture=architecture, library_os=LibraryOs(name=name), start=Start(program=program))


def _commands(argv: list[str]) -> list[str]:
    return [argv[number + 1] for number, word in enumerate(argv) if word == "-ex"]


def test_programs_get_their_symbols_where_they_are_loaded(tmp_path: Path) -> None:
    hello = program(tmp_path / "he llo", "-pie")
    library = shared_library(tmp_path / "libx.so", "x")
    programs = {"app/hello": hello, "lib/libx.so": library}
    argv = gdb_command(Path("image.elf"), _manifest(), Path("image.elf.debug"), programs, 1234, sources=tmp_path)
    assert (argv[0], argv[-1]) == ("gdb", str(Path("image.elf.debug").absolute()))
    assert _commands(argv) == [
        f"directory {tmp_path}",
        "target remote 127.0.0.1:1234",
        # Nobody starts a library.
        f"unikernel-programs start_thread '$rdx' /app/hello '{hello}'",
    ]
    script = Path(argv[argv.index("-x") + 1])
    assert script.is_file()


def test_a_program_is_started_by_a_link(tmp_path: Path) -> None:
    link_small_image(tmp_path, small_kit(tmp_path), "image.elf", ImageSpec("image"), link="/bin/hi")
    image, hello = tmp_path / "image.elf", program(tmp_path / "program")
    manifest = read_manifest(image)
    manifest.start.program = "/bin/hi"
    (*_, last) = _commands(gdb_command(image, manifest, None, {"app/hello": hello}, 1))
    assert last.endswith(f"/app/hello {hello} /bin/hi {hello}")
    manifest.start.program = "/app/none"
    (*_, last) = _commands(gdb_command(image, manifest, None, {"app/hello": hello}, 1))
    assert last.endswith(f" /app/hello {hello}")


def test_where_nothing_tells_the_address_only_fixed_ones_are_known(tmp_path: Path) -> None:
    static, pie = program(tmp_path / "static", "-static", "-no-pie"), program(tmp_path / "pie", "-pie")
    argv = gdb_command(Path("i.img"), _manifest("nanos"), Path("i.img.debug"), {"app/static": static, "app/pie": pie}, 1)
    assert [command for command in _commands(argv) if command.startswith("add-symbol")] == [f"add-symbol-file {static}"]
    assert "-x" not in argv


def test_the_gdb_of_another_machine_and_an_image_without_a_debug_file() -> None:
    argv = gdb_command(Path("/i.elf"), _manifest("picolibc", architecture="riscv64"), None, {}, 1)
    assert (argv[0], argv[-1]) == ("gdb-multiarch", "/i.elf")
    assert _commands(argv) == [f"directory {Path.cwd()}", "target remote 127.0.0.1:1"]


def test_gdb_itself_understands_the_words(tmp_path: Path) -> None:
    """All but the target: there is none."""
    directory = tmp_path / "with space"
    static = program(directory / "static", "-static", "-no-pie", "-g")
    argv = gdb_command(Path("i.img"), _manifest("nanos"), static, {"app/static": static}, 1, sources=directory)
    words = [word if not word.startswith("target") else "show directories" for word in argv[1:]]
    printed = subprocess.run(
        [argv[0], "-batch", "-nx", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ).stdout
    assert f"Source directories searched: {directory}:$cdir:$cwd" in printed
    assert f'add symbol table from file "{static}"' in printed
