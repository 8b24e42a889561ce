from __future__ import annotations

import importlib.resources
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.linux.kit import (
    _KERNEL_OBJECTS,
    FileCount,
    adapt_linker_script,
    announcement,
    check_wrapped,
    collecting_script,
    is_compilation,
    keep_init_text,
)

# As the kernel's own makefile writes it, with the rest left out: Linux 6.1 ...
_SCRIPT_6_1 = """\
SECTIONS
{
 . = (0xffffffff80000000 + ALIGN(0x200000, 0x200000));
 .text : AT(ADDR(.text) - 0xffffffff80000000) {
  _text = .;
  . = ALIGN(8); __kprobes_text_start = .; *(.kprobes.text) __kprobes_text_end = .;
  . = ALIGN((1 << 21));
  . = ALIGN(8); __entry_text_start = .; *(.entry.text) __entry_text_end = .;
  . = ALIGN((1 << 21));
  . = ALIGN(8); __softirqentry_text_start = .; *(.softirqentry.text) __softirqentry_text_end = .;
  *(.gnu.warning)
 } :text =0xcccc
 _etext = .;
 . = ALIGN((1 << 12));
 . = ALIGN((1 << 21));
 . = ALIGN(((1 << 12))); .rodata : AT(ADDR(.rodata) - 0xffffffff80000000) { __start_rodata = .; *(.rodata) *(.rodata.*) }
 . = ALIGN((1 << 12));
 .init.begin : AT(ADDR(.init.begin) - 0xffffffff80000000) {
  __init_begin = .;
 }
 . = ALIGN((1 << 12)); .init.text : AT(ADDR(.init.text) - 0xffffffff80000000) { _sinittext = .; *(.init.text) _einittext = .; }
 :init
 .altinstr_aux : AT(ADDR(.altinstr_aux) - 0xffffffff80000000) {
  *(.altinstr_aux)
 }
 .init.data : AT(ADDR(.init.data) - 0xffffffff80000000) { *(.init.data) }
 __init_end = .;
}
"""
# ... and 6.12, where what enters the kernel is the last of its code.
_SCRIPT_6_12 = _SCRIPT_6_1.replace(
    _SCRIPT_6_1[_SCRIPT_6_1.index("  . = ALIGN((1 << 21));") : _SCRIPT_6_1.index(" _etext = .;")],
    """\
  . = ALIGN((1 << 21));
  *(.text..__x86.rethunk_untrain)
  . = ALIGN(8); __entry_text_start = .; *(.entry.text) __entry_text_end = .;
  . = ALIGN((1 << 21));
  *(.gnu.warning)
 } :text = 0xcccccccc
""",
)
_SCRIPTS = pytest.mark.parametrize("original", [_SCRIPT_6_1, _SCRIPT_6_12], ids=["6.1", "6.12"])


@_SCRIPTS
def test_code_of_the_start_up_is_before_what_is_freed(original: str) -> None:
    script = keep_init_text(original)
    begin = script.index("__init_begin")
    assert script.count("__init_begin") == 1
    assert script.index(".init.text") < script.index("*(.altinstr_aux)") < begin < script.index("*(.init.data)")
    # Pages are freed as a whole.
    assert script[:begin].splitlines()[-3].strip() == ". = ALIGN(4096);"
    assert sorted(line for line in script.splitlines() if "ALIGN(4096)" not in line) == sorted(original.splitlines())


@_SCRIPTS
@pytest.mark.parametrize("huge", ["(1 << 21)", "((1UL) << 21)", "0x200000", "2097152", "(1 << (12 + 9))"])
def test_there_are_no_gaps_around_what_enters_the_kernel(original: str, huge: str) -> None:
    start, end = original.index(" .text : "), original.index(" _etext = .;")
    written = original[:start] + original[start:end].replace("(1 << 21)", huge) + original[end:]
    if "+" in huge:
        with pytest.raises(
            UnikernelError, match=r"Linux 6\.99: .* alignment of an unknown form in its section \.text, .*1 << \(12"
        ):
            adapt_linker_script(written, "6.99", set())
        return
    script = adapt_linker_script(written, "6.1", {"CONFIG_SMP"})
    code, rest = script.split(" _etext = .;")
    assert re.findall(r"ALIGN\((.*)\);", code[code.index(" .text") :]).count("4096") == 2
    assert huge not in code[code.index(" .text") :]
    # The one before the constants stays.
    assert rest.count(". = ALIGN((1 << 21));") == 1


@_SCRIPTS
@pytest.mark.parametrize("option", ["PAGE_TABLE_ISOLATION", "MITIGATION_PAGE_TABLE_ISOLATION", "CPU_SRSO", "MITIGATION_SRSO"])
def test_what_enters_the_kernel_is_in_large_pages_where_a_mitigation_needs_it(original: str, option: str) -> None:
    script = adapt_linker_script(original, "6.1", {"CONFIG_SMP", f"CONFIG_{option}"})
    assert script.count("ALIGN((1 << 21))") == original.count("ALIGN((1 << 21))") == 3
    assert script != original


@_SCRIPTS
@pytest.mark.parametrize(
    ("part", "other", "expected"),
    [
        (" .text :", " .code :", "no section .text"),
        ("*(.entry.text)", "*(.enter.text)", r"no \*\(.entry.text\) in its section .text"),
        (" .init.begin :", " .init.start :", "no section .init.begin"),
        (" .init.text :", " .start.text :", "no section .init.text"),
        (" .altinstr_aux :", " .altinstr :", "no section .altinstr_aux"),
    ],
)
def test_a_script_that_lacks_what_is_changed_is_an_error(original: str, part: str, other: str, expected: str) -> None:
    assert part in original
    with pytest.raises(UnikernelError, match=rf"^Linux 6\.99: its linker script \S+ has {expected}, .* Linux 6\.1 or 6\.12"):
        adapt_linker_script(original.replace(part, other), "6.99", set())


@_SCRIPTS
def test_a_script_in_another_order_is_an_error(original: str) -> None:
    with pytest.raises(UnikernelError, match=r"\.init\.begin, \.init\.text and \.altinstr_aux in this order"):
        adapt_linker_script(adapt_linker_script(original, "6.99", set()), "6.99", set())


_HEADERS = """\

init/main.o:     file format elf64-x86-64

Sections:
Idx Name          Size      VMA               LMA               File off  Algn
  0 .text         00000000  0000000000000000  0000000000000000  00000040  2**0
                  CONTENTS, ALLOC, LOAD, READONLY, CODE
"""
_NAMES = (".data", ".bss", ".init.text", ".init.data", ".head.text", ".entry.text", ".text.schedule", "__ex_table", ".discard.nop")


def test_all_sections_but_single_functions_are_kept() -> None:
    headers = _HEADERS.splitlines() + [f" {number} {name} 00000000" for number, name in enumerate(_NAMES, 1)]
    script = collecting_script(headers, "6.1").splitlines()
    for name in (".init.text", ".init.data", ".head.text", ".entry.text", "__ex_table"):
        assert f" {name} 0 : {{ KEEP(*({name})) }}" in script
    assert not [line for line in script if "schedule" in line or ".discard.nop" in line]


def test_objects_without_the_sections_of_a_kernel_are_an_error() -> None:
    with pytest.raises(UnikernelError, match=r"Linux 6\.99: its objects have no section \.bss, \.data, .*6\.12"):
        collecting_script(_HEADERS.splitlines(), "6.99")


def test_a_function_of_ours_that_nothing_calls_is_an_error() -> None:
    real = "0000000000000000 T vring_create_virtqueue"
    ours = "0000000000000010 T __wrap_vring_create_virtqueue"
    enabled = {"CONFIG_X86", "CONFIG_VIRTIO_PCI"}
    check_wrapped([real, ours, "                 U memcpy"], "6.1", enabled)
    check_wrapped([], "6.1", {"CONFIG_X86", "CONFIG_VIRTIO"})
    uncalled: tuple[list[str], ...] = ([real], [real, "                 U __wrap_vring_create_virtqueue"], [])
    for symbols in uncalled:
        with pytest.raises(UnikernelError, match=r"Linux 6\.99: nothing calls vring_create_virtqueue\(\), .*6\.12"):
            check_wrapped(symbols, "6.99", enabled)


def test_all_objects_of_ours_are_compiled() -> None:
    kernel = importlib.resources.files("unikernel.linux") / "kernel"
    assert sorted(_KERNEL_OBJECTS) == sorted(file.name for file in kernel.iterdir() if file.name.endswith(".c"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  CC      init/main.o", True),
        ("  AS      arch/x86/entry/entry_64.o", True),
        ("set -e;  echo '  CC      init/main.o'; gcc -c -o init/main.o init/main.c", True),
        ("  HOSTCC  scripts/kallsyms.o", False),
        ("  CC      /tree/tools/objtool/check.o", False),
        ("  CC      kernel/bounds.s", False),
        ("  AR      init/built-in.a", False),
        ("init/main.c:1: warning:   CC      init/main.o", False),
    ],
)
def test_files_of_the_kernel_are_counted(line: str, expected: bool) -> None:
    assert is_compilation(line) is expected


def test_the_count_ends_with_all_files_whatever_was_expected() -> None:
    for expected in (0, 999, 1406, 2000):
        count = FileCount(expected)
        for _ in range(1406):
            count.add()
            assert count.done <= count.total
        count.finish()
        assert str(count) == "compiled 1,406 of 1,406 files"


def test_what_happens_is_announced() -> None:
    config = "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 6.1.192 Kernel Configuration\n#\n"
    assert announcement(config, 2).startswith("Compiling Linux 6.1.192: once per configuration, about ")
    assert announcement(config, 2).endswith(" minutes on 2 idle cores; later builds reuse it")
    assert announcement(config, 64).endswith(" about 1 minute on 64 idle cores; later builds reuse it")


_ASK = "import subprocess, sys; subprocess.run(sys.argv[1:])"
_TAR = """\
#!/bin/sh
touch unpacking
while [ ! -e unpack ]; do sleep 0.1; done
exec tar "$@"
"""
_MAKE = """\
#!/bin/sh
echo $$ > "DIRECTORY/compiling"
exec sleep 1000
"""


@pytest.mark.parametrize("moment", ["unpacking", "compiling"])
def test_a_compilation_ends_with_who_asked_for_it(moment: str, tmp_path: Path) -> None:
    """As when Pants is killed."""
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n")
    with tarfile.open(tmp_path / "linux.tar", "w") as tarball:
        tarball.add(tree, "linux")
    (tmp_path / "kernel.config").write_text("CONFIG_X86=y\n")
    for name, script in (("tar", _TAR), ("make", _MAKE.replace("DIRECTORY", str(tmp_path)))):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    if moment == "compiling":
        (tmp_path / "unpack").touch()
    command = [sys.executable, "-m", "unikernel.linux", "build-kit", "--source=linux.tar", "--config=kernel.config", "--output=kit"]
    asking = subprocess.Popen(
        [sys.executable, "-c", _ASK, *command, f"--tar={tmp_path / 'tar'}", f"--make={tmp_path / 'make'}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    while not (tmp_path / moment).exists():
        assert asking.poll() is None
        time.sleep(0.05)
    asking.kill()
    (tmp_path / "unpack").touch()
    # All that has the pipe is gone when it ends.
    printed, _ = asking.communicate(timeout=60)
    assert "Whoever started this build is gone" in printed
    assert not Path("/proc", (tmp_path / "compiling").read_text().strip()).exists()
