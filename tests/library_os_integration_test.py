"""Programs that are linked with a library OS's own compiler, in a repository of their own: from sources to an exit status, and what can be
wrong with them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from pants_project import PantsProject, completed_processes, files_of

PROGRAM = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
"""
MAIN = '#include <stdio.h>\n#include "part.h"\nint main(int argc, char **argv) { printf("%d %s\\n", argc, argv[argc - 1]); return part(argc); }\n'
# Pants would know the outcome of compiling what an earlier run of these tests had.
NEW = uuid.uuid4().hex


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    with PantsProject(tmp_path_factory.mktemp("repository")) as project:
        project.write("app/main.c", f'{MAIN}const char main_{NEW}[] = "{NEW}";\n')
        project.write("app/part.c", part(5))
        project.write("app/part.h", "int part(int number);\n")
        project.write("app/BUILD", PROGRAM + image())
        yield project


def part(more: int) -> str:
    """With data that is in no other, so that objects and programs are new as well."""
    return f'#include "part.h"\nint part(int number) {{ return number + {more}; }}\nconst char part_{NEW}[] __attribute__((used)) = "{more}";\n'


def image(unikernel: str = "unikernel", **fields: object) -> str:
    settings: dict[str, object] = {"app": ":program", "library_os": "picolibc", **fields}
    return f"unikernel_image(name={unikernel!r}, {', '.join(f'{key}={value!r}' for key, value in settings.items())})\n"


def test_a_program_of_several_files_is_compiled_linked_signed_and_run(project: PantsProject) -> None:
    project.write("app/BUILD", PROGRAM + image(args=["7"]))
    processes = set(completed_processes(project.succeed("package", "app:unikernel")))
    assert {"Compile app/main.c", "Compile app/part.c", "Link app:unikernel with picolibc"} <= processes
    assert project.dist() == sorted(files_of("app/unikernel"))
    project.succeed("unikernel-verify", "app:unikernel")
    status, printed = project.run("run", "app:unikernel")
    assert (status, "2 7" in printed) == (7, True)
    status, printed = project.run("run", "app:unikernel", "--", "another")
    assert (status, "3 another" in printed) == (8, True)
    manifest = json.loads((project.root / "dist/app/unikernel.json").read_text())
    assert (manifest["architecture"], manifest["library_os"]["name"]) == ("riscv64", "picolibc")
    names = {
        component["name"] for component in json.loads((project.root / "dist/app/unikernel.cdx.json").read_text())["components"]
    }
    assert {"picolibc", "libc.a", "app:program"} <= names


def test_a_change_compiles_one_file_and_links(project: PantsProject) -> None:
    project.write("app/BUILD", PROGRAM + image())
    project.succeed("package", "app:unikernel")
    project.write("app/part.c", part(6))
    processes = set(completed_processes(project.succeed("package", "app:unikernel")))
    assert processes == {"Compile app/part.c", "Link app:unikernel with picolibc", "Put the manifest into app:unikernel"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"library_os": "picolib"},
            "bad:bad: library_os: There is no library OS 'picolib'; there are ",
        ),
        ({"args": ["two words"]}, "bad:bad: picolibc cannot be given 'two words' on its command line"),
        ({"env": {"A": "1"}}, "bad:bad: picolibc gives its application no environment: A cannot be set"),
        ({"memory": "1M"}, "bad:bad: the `memory` field is 1M, and picolibc needs 16M at least"),
        ({"cpus": 2}, "bad:bad: the `cpus` field means nothing to picolibc: leave it out"),
        ({"network": "dhcp"}, "bad:bad: the `network` field means nothing to picolibc"),
        ({"ports": ["80"]}, "bad:bad: the `ports` field means nothing to picolibc"),
        ({"kernel_config": ["CONFIG_IPV6=y"]}, "bad:bad: the `kernel_config` field means nothing to picolibc"),
        ({"files": [("//app:program", "/etc/")]}, "bad:bad: the `files` field means nothing to picolibc"),
    ],
)
def test_fields_that_the_library_os_cannot_honour(project: PantsProject, fields: dict[str, object], expected: str) -> None:
    settings: dict[str, object] = {"app": "//app:program", **fields}
    project.refuse(image("bad", **settings), expected)


def test_an_app_that_has_no_sources(project: PantsProject) -> None:
    build = 'archive(name="tree", packages=["//app:program"], format="tar")\n' + image("bad", app=":tree")
    project.refuse(build, "bad:bad: the `app` field names bad:tree, a `archive`, and picolibc takes sources", "name a `cc_binary`")


def test_what_a_program_needs_and_the_library_os_does_not_have(project: PantsProject) -> None:
    project.write(
        "bad/main.c",
        "int fork(void);\nint socket(int, int, int);\nstatic int helper(void) { return socket(1, 2, 3); }\nint main(void) { return fork() + helper(); }\n",
    )
    project.refuse(
        PROGRAM + image("bad"),
        "2 symbols not provided by picolibc",
        "fork    needed by bad/main.c (main)",
        "socket  needed by bad/main.c",
    )


def test_a_source_that_does_not_compile(project: PantsProject) -> None:
    project.write("bad/main.c", "#include <sys/epoll.h>\nint main(void) { return 0; }\n")
    project.refuse(PROGRAM + image("bad"), "1 source of bad:bad can't be compiled", "Not found: sys/epoll.h")


def test_without_its_compiler(project: PantsProject) -> None:
    project.write("bad/main.c", "int main(void) { return 0; }\n")
    project.refuse(
        PROGRAM + image("bad"),
        "bad:bad: picolibc needs riscv64-unknown-elf-gcc (a GCC for RISC-V without an operating system)",
        "Debian's packages picolibc-riscv64-unknown-elf, gcc-riscv64-unknown-elf and qemu-system-misc",
        options=["--cc-search-paths=['/nonexistent', '/bin/../bin/../nonexistent']"],
    )


# --- a library OS of the repository's own -------------------------------------------------------------------------

BARE = """\
name: bare
title: nothing but a start and an exit
license: MIT
architecture: riscv64
tried: in this test
published: in this repository
inputs:
  compiler:
    what: a GCC for RISC-V without an operating system
    kind: program
    default: riscv64-unknown-elf-gcc
  objcopy:
    what: GNU objcopy for RISC-V
    kind: program
    default: riscv64-unknown-elf-objcopy
  start:
    what: what runs before main
    kind: file
takes:
  - sources
link:
  compiler: compiler
  objcopy: objcopy
  compile_flags: -march=rv64imac -mabi=lp64 -mcmodel=medany -ffreestanding
  link_flags: -march=rv64imac -mabi=lp64 -mcmodel=medany -nostdlib -nostartfiles -static -Ttext=0x80000000 {start}
command_line:
  form: ''
  quoting: none
  in_image: no
boot:
  memory: 16M
  machines:
    virt:
      program: qemu-system-riscv64
      machine: virt
      cpu:
        tcg: rv64
      arguments: -nodefaults -display none -no-reboot -bios none -serial none -kernel {image} -semihosting-config enable=on,target=native
exit:
  report: monitor
limits:
  threads: no
"""
# QEMU starts at the first byte: this has to come first. Semihosting's SYS_EXIT_EXTENDED (Arm's specification, with RISC-V's sequence of
# instructions) ends QEMU with main's result.
START = """\
    .section .text.unlikely, "ax"
    .option norvc
    .globl _start
_start:
    la sp, stack_end
    call main
    la a1, block
    sd a0, 8(a1)
    li a0, 0x20
    .balign 16
    slli zero, zero, 0x1f
    ebreak
    srai zero, zero, 7
1:  j 1b
    .data
    .balign 16
block:
    .quad 0x20026, 0
    .bss
    .balign 16
    .space 4096
stack_end:
"""
BARE_TARGETS = """\
file(name="start", source="start.S")
library_os(name="bare", description_file="bare.yaml", inputs={"start": ":start"})
"""


@pytest.fixture
def bare(project: PantsProject) -> Iterator[PantsProject]:
    project.write("bare/bare.yaml", BARE)
    project.write("bare/start.S", START)
    file = project.write("bare/BUILD", BARE_TARGETS)
    project.write("mine/main.c", "int main(void) { return 23; }\n")
    project.write("mine/BUILD", PROGRAM + image(library_os="bare"))
    yield project
    file.unlink()
    (project.root / "mine/BUILD").unlink()


def test_a_library_os_that_nobody_here_has_heard_of(bare: PantsProject) -> None:
    project = bare
    assert project.run("run", "mine:unikernel")[0] == 23
    project.succeed("package", "mine:unikernel")
    project.succeed("unikernel-verify", "mine:unikernel")
    manifest = json.loads((project.root / "dist/mine/unikernel.json").read_text())
    assert manifest["library_os"]["name"] == "bare" and manifest["library_os"]["description"] == BARE
    # What it is made of is a dependency like any other.
    listed = project.succeed("dependencies", "mine:unikernel").splitlines()
    assert {"bare:bare", "bare:start", "mine:program"} <= set(listed)
    project.write("bare/start.S", START.replace("sd a0, 8(a1)", "addi a0, a0, 1\n    sd a0, 8(a1)"))
    assert project.run("run", "mine:unikernel")[0] == 24


@pytest.mark.parametrize(
    ("targets", "description", "expected"),
    [
        (
            BARE_TARGETS,
            BARE.replace("  form: ''", "  forms: ''"),
            "bare:bare: bare/bare.yaml:28: while parsing a mapping, unexpected key",
        ),
        (
            BARE_TARGETS,
            BARE.replace("report: monitor", "report: screen"),
            "when expecting one of: io-port, monitor, monitor-shifted",
        ),
        (BARE_TARGETS, BARE.replace("name: bare", "name: other"), "bare:bare: its description is of 'other'"),
        (
            BARE_TARGETS.replace('"start":', '"kernel":'),
            BARE,
            "the `inputs` field has 'kernel', and bare needs compiler, objcopy, start",
        ),
        (
            BARE_TARGETS.replace(', inputs={"start": ":start"}', ""),
            BARE,
            "mine:unikernel: bare needs start, what runs before main. Published as: in this repository",
        ),
    ],
)
def test_a_library_os_that_is_described_or_declared_wrongly(
    bare: PantsProject, targets: str, description: str, expected: str
) -> None:
    bare.write("bare/BUILD", targets)
    bare.write("bare/bare.yaml", description)
    bare.fail("package", "mine:unikernel", expected=[expected])
