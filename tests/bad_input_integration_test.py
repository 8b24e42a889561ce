"""What a user can get wrong: one clear error that names the target, the field and the fix, and nothing in dist/."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pants_project import PantsProject

PROGRAM = 'cc_sources(name="sources")\ncc_binary(name="program", dependencies=[":sources"])\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    with PantsProject(tmp_path_factory.mktemp("project")) as project:
        project.write("main.c", "int main(void) { return 0; }\n")
        project.write("BUILD", PROGRAM)
        yield project


def expect_error(project: PantsProject, directory: str, build: str, *expected: str, options: Sequence[str] = ()) -> None:
    project.refuse(build, *expected, target=f"{directory}:unikernel", options=options)


def image(**fields: object) -> str:
    settings: dict[str, object] = {"app": "//:program", "network": "none", **fields}
    return f"unikernel_image(name='unikernel', {', '.join(f'{name}={value!r}' for name, value in settings.items())})\n"


@pytest.mark.parametrize(
    "field, value, expected",
    [
        ("memory", "lots", "'lots' is no amount of memory"),
        ("memory", "64Q", "'64Q' is no amount of memory"),
        ("memory", "0", "'0' is no amount of memory"),
        ("ports", ["http"], "'http' is no port"),
        ("ports", ["70000"], "'70000' is no port"),
        ("ports", ["80/sctp"], "'80/sctp' is no port"),
        ("ports", ["80:1", "80:2"], "two entries use the host's port 80/tcp"),
        ("cpus", 0, "0 is not between 1 and 64"),
        ("kernel_config", ["CONFIG_NET"], "'CONFIG_NET' is no kernel option"),
        ("kernel_config", ["CONFIG_EXT4_FS=m"], "there are no modules in an image"),
        ("kernel_config", ["CONFIG_MODULES=y"], "CONFIG_MODULES cannot be set"),
        ("library_os", "plan9", "plan9"),
        ("files", [("//:program", "relative")], "'relative' is no absolute path"),
        ("files", [("//:program", "/a"), ("//:program", "/a")], "the destination '/a' is there twice"),
        ("files", [("//:program", "/a", "rwx")], "'rwx' is no mode"),
        ("working_directory", "app", "'app' is no absolute path"),
        ("hostname", "under_score", "'under_score' is no host name"),
    ],
)
def test_field_that_cannot_be_parsed(project: PantsProject, field: str, value: object, expected: str) -> None:
    directory = f"{field}-{abs(hash(str(value)))}"
    expect_error(project, directory, image(**{field: value}), field, f"{directory}:unikernel", expected)


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"network": "static"}, "is no IPv4 address with the length of its prefix"),
        ({"network": "static", "ip_address": "10.0.2.15"}, "'10.0.2.15' is no IPv4 address with the length"),
        ({"network": "static", "ip_address": "10.0.2.300/24"}, "'10.0.2.300/24' is no IPv4 address"),
        ({"network": "static", "ip_address": "fd00::1/64"}, "'fd00::1/64' is no IPv4 address"),
        ({"network": "static", "ip_address": "10.0.2.15/24", "gateway": "10.0.3.1"}, "10.0.3.1 is not in 10.0.2.0/24"),
        ({"network": "dhcp", "ip_address": "10.0.2.15/24"}, 'is only for network="static"'),
        ({"network": "dhcp", "nameservers": ["dns.example"]}, "'dns.example' is no IPv4 address"),
    ],
)
def test_network_that_makes_no_sense(project: PantsProject, fields: dict[str, object], expected: str) -> None:
    directory = f"network-{abs(hash(str(fields)))}"
    expect_error(project, directory, image(**fields), f"{directory}:unikernel", expected)


def test_app_that_does_not_exist(project: PantsProject) -> None:
    expect_error(project, "unknown-app", image(app="//:nothing"), "the `app` field", "unknown-app:unikernel", "nothing")


def test_app_that_cannot_be_packaged(project: PantsProject) -> None:
    build = image(app="//:sources")
    expect_error(project, "unpackageable", build, "unpackageable:unikernel", "the `app` field", "`cc_source")


def test_program_for_another_architecture(project: PantsProject) -> None:
    # EM_AARCH64 in a real program's header.
    program = bytearray(Path("/bin/true").resolve().read_bytes())
    struct.pack_into("<H", program, 18, 183)
    project.write("foreign/program", bytes(program))
    build = 'files(name="files", sources=["program"])\narchive(name="app", files=[":files"], format="tar")\n'
    build += image(app=":app", executable="foreign/program")
    expect_error(project, "foreign", build, "foreign:unikernel", "compiled for aarch64", "the image is for x86_64")


def test_program_that_is_none(project: PantsProject) -> None:
    project.write("text/program", "just text\n")
    build = 'files(name="files", sources=["program"])\narchive(name="app", files=[":files"], format="tar")\n'
    build += image(app=":app", executable="text/program")
    expect_error(project, "text", build, "text:unikernel", "neither an ELF program, nor a PEX, nor a script")


def test_output_path_that_is_a_pattern(project: PantsProject) -> None:
    build = image(app="//:program", output_path="x/[y].elf")
    expect_error(project, "pattern", build, "pattern:unikernel", "takes '[' as a part of a pattern: set the `output_path` field to")


def test_output_path_of_a_program_that_is_a_pattern(project: PantsProject) -> None:
    build = PROGRAM.replace('name="program"', 'name="program", output_path="x/{y}"') + image(app=":program")
    expect_error(
        project, "program-pattern", build, "program-pattern:program", "takes '{' as a part of a pattern: set the `output_path`"
    )


def test_archive_without_executable(project: PantsProject) -> None:
    build = 'archive(name="app", packages=["//:program"], format="tar")\n' + image(app=":app")
    expect_error(project, "no-executable", build, "say by `executable` which one starts", "/program")


def test_missing_shared_library(project: PantsProject) -> None:
    """A program whose library is there when it is linked, and nowhere when the image is built."""
    project.write("lost/lib.c", "int answer(void) { return 42; }\n")
    project.write("lost/main.c", "int answer(void);\nint main(void) { return answer(); }\n")
    build = (
        'cc_sources(name="lib", sources=["lib.c"])\n'
        'cc_sources(name="main", sources=["main.c"])\n'
        'cc_binary(name="liblost", output_path="lost/liblost.so.7", dependencies=[":lib"], link="dynamic", '
        'compile_flags=["-fPIC"], link_flags=["-shared", "-Wl,-soname,liblost.so.7"])\n'
        'cc_binary(name="program", dependencies=[":main", ":lib"], link="dynamic", '
        'link_flags=["-Wl,--no-as-needed", "-l:libgcc_s.so.1"])\n'
    )
    project.write("lost/BUILD", build)
    project.succeed("package", "lost:program")
    # The name of a library that is needed, in place, by one that does not exist.
    program = project.root / "dist/lost/program"
    project.write("lost/renamed", program.read_bytes().replace(b"libgcc_s.so.1", b"libnone.so.77"))
    build += 'files(name="files", sources=["renamed"])\narchive(name="app", files=[":files"], format="tar")\n'
    build += image(app=":app", executable="lost/renamed")
    expect_error(project, "lost", build, "lost:unikernel", "/lost/renamed needs libnone.so.77")


def test_memory_too_small_for_the_root_file_system(project: PantsProject) -> None:
    project.write("small/big.bin", b"\1" * (20 << 20))
    build = 'file(name="big", source="big.bin")\n' + image(memory="32M", files=[(":big", "/big.bin")])
    expect_error(project, "small", build, "small:unikernel", "memory: 32 MiB are too small", "needs at least")


def test_root_file_system_larger_than_a_kernel_image(project: PantsProject) -> None:
    with project.write("huge/huge.bin", b"").open("r+b") as sparse:
        sparse.truncate(470 * 10**6)
    build = 'file(name="huge", source="huge.bin")\n' + image(memory="4G", files=[(":huge", "/huge.bin")])
    expect_error(project, "huge", build, "huge:unikernel", "471 MB", "at most 460 MB can be linked")


def test_kernel_option_that_does_not_exist(project: PantsProject) -> None:
    build = image(kernel_config=["CONFIG_NO_SUCH_OPTION=y"])
    expect_error(project, "no-option", build, "no-option:unikernel", "there is no option CONFIG_NO_SUCH_OPTION in Linux")


def test_kernel_option_whose_dependencies_are_not_there(project: PantsProject) -> None:
    build = image(kernel_config=["CONFIG_BTRFS_FS=y"])
    expect_error(project, "unmet", build, "unmet:unikernel", "cannot satisfy CONFIG_BTRFS_FS=y")


def test_network_without_the_kernels_part_of_it(project: PantsProject) -> None:
    build = image(network="dhcp", kernel_config=["CONFIG_INET=n"])
    expect_error(
        project, "no-inet", build, "no-inet:unikernel", "`network` is 'dhcp'", "switches off CONFIG_INET", 'network="none"'
    )


def test_missing_kernel_source(project: PantsProject) -> None:
    options = ["--unikernel-linux-source=['/nowhere/linux-*.tar.xz']"]
    nothing = "There is no kernel source: nothing matches /nowhere/linux-*.tar.xz"
    # It is said before the program is compiled, which cannot be.
    project.write("no-source/broken.c", "int main(void) { return nothing; }\n")
    build = PROGRAM + image(app=":program")
    expect_error(project, "no-source", build, nothing, "linux-source", options=options)


def test_kernel_source_that_is_none(project: PantsProject, tmp_path: Path) -> None:
    tarball = tmp_path / "linux-1.tar.xz"
    tarball.write_text("no tarball\n")
    expect_error(project, "bad-source", image(), "cannot be unpacked", options=[f"--unikernel-linux-source=['{tarball}']"])


def test_missing_tool(project: PantsProject, tmp_path: Path) -> None:
    """A machine without flex and bison."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for directory in ("/usr/bin", "/bin"):
        for program in Path(directory).iterdir():
            if program.name not in ("flex", "bison") and not (tools / program.name).exists():
                (tools / program.name).symlink_to(program)
    options = [f"--unikernel-linux-search-path=['{tools}']"]
    expect_error(project, "no-tool", image(), "bison, flex not found", "apt-get install bison flex", options=options)


_FAILING_COMPILER = """\
#!/bin/sh
case "$*" in
  WHEN) echo "the compiler broke" >&2; exit 1;;
esac
exec /usr/bin/gcc "$@"
"""


def failing_compiler(directory: Path, when: str) -> list[str]:
    """Options for Pants with a `gcc` of its own, which says that it broke when its command line matches the shell's pattern `when`."""
    tools = directory / "tools"
    tools.mkdir()
    compiler = tools / "gcc"
    compiler.write_text(_FAILING_COMPILER.replace("WHEN", when))
    compiler.chmod(0o755)
    return [f"--unikernel-linux-search-path=['{tools}', '/usr/bin', '/bin']"]


def test_missing_header_of_the_kernels_own_tools(project: PantsProject, tmp_path: Path) -> None:
    """A machine without libelf-dev."""
    options = failing_compiler(tmp_path, when="*gelf.h*")
    expect_error(project, "no-header", image(), "gcc does not find gelf.h", "apt-get install libelf-dev", options=options)


def test_kernel_that_does_not_compile_shows_the_end_of_its_log(project: PantsProject, tmp_path: Path) -> None:
    """A compiler that configures and then fails."""
    options = failing_compiler(tmp_path, when='*vmlinux*|*" -c "*init/main.c*')
    expected = "does not compile; the last lines of its log"
    expect_error(project, "broken-compiler", image(), expected, "the compiler broke", options=options)
