from __future__ import annotations

import re

import pytest

from unikernel.errors import UnikernelError
from unikernel.library_os.description import (
    AppKind,
    Debug,
    ExitReport,
    InputKind,
    Link,
    Pack,
    ProgramStart,
    Quoting,
    RootfsForm,
)
from unikernel.library_os.reader import placeholders, read_library_os

_PACKED = """\
name: mine
title: A library OS of our own
license: MIT
architecture: x86_64
tried: not tried
published: on our file server
inputs:
  kernel:
    what: its kernel
    kind: elf
  mkimage:
    what: what makes images
    kind: program
    default: mkimage
takes:
  - static-pie
  - dynamic
pack:
  rootfs: cpio
  command: "{mkimage} --kernel {kernel} 'two words' {packed}"
  standard_input: rootfs
  deterministic: no
command_line:
  form: '{environment} -- {program} {arguments}'
  quoting: double-quotes
  in_image: yes
  environment: 'env=[ {words} ]'
boot:
  memory: 16M
  machines:
    pc:
      program: qemu-system-x86_64
      machine: q35
      cpu:
        kvm: host
        tcg: max
      arguments: -display none -kernel {image}
      network_device: virtio-net-pci
exit:
  report: monitor-shifted
limits:
  fork: no
"""
# Its kernel is the image.
_LOADED = _PACKED.replace("pack:\n", "pack:\n  kernel: kernel\n").replace("-kernel {image}", "-kernel {image} -initrd {rootfs}")
_LINKED = _PACKED.replace("  - static-pie\n  - dynamic\n", "  - sources\n")
_COMMAND = """  command: "{mkimage} --kernel {kernel} 'two words' {packed}"\n"""
_LINKED = _LINKED[: _LINKED.index("pack:")] + _LINKED[_LINKED.index("command_line:") :].replace(
    "command_line:",
    "link:\n  compiler: mkimage\n  objcopy: mkimage\n  compile_flags: -O2 -g\n  link_flags: -static '-Wl,a b'\ncommand_line:",
    1,
)


def test_a_description_that_packs() -> None:
    library_os = read_library_os(_PACKED, "mine.yaml")
    assert (library_os.name, library_os.minimum_memory) == ("mine", 16 << 20)
    assert library_os.takes == (AppKind.STATIC_PIE, AppKind.DYNAMIC)
    command = ("{mkimage}", "--kernel", "{kernel}", "two words", "{packed}")
    assert library_os.build == Pack(RootfsForm.CPIO, command, "rootfs", deterministic=False)
    assert library_os.inputs["kernel"].kind is InputKind.ELF
    assert (library_os.inputs["kernel"].default, library_os.inputs["mkimage"].default) == ("", "mkimage")
    assert library_os.command_line.quoting is Quoting.DOUBLE_QUOTES
    assert library_os.machines["pc"].cpu == {"kvm": "host", "tcg": "max"}
    assert library_os.exit.report is ExitReport.MONITOR_SHIFTED
    assert (library_os.limits.fork, library_os.limits.exec) == (False, True)


def test_a_description_whose_kernel_is_the_image() -> None:
    build = read_library_os(_LOADED, "mine.yaml").build
    assert isinstance(build, Pack)
    assert (build.kernel, build.suffix) == ("kernel", "elf")


def test_a_description_without_a_machine_says_what_boots_images() -> None:
    start = _PACKED.index("  machines:")
    text = _PACKED[:start] + "  elsewhere: xl, of Xen\n" + _PACKED[_PACKED.index("exit:") :]
    library_os = read_library_os(text, "mine.yaml")
    assert (library_os.elsewhere, dict(library_os.machines)) == ("xl, of Xen", {})


def test_a_description_says_what_a_debugger_needs() -> None:
    assert read_library_os(_PACKED, "mine.yaml").debug == Debug()
    text = _PACKED + "debug:\n  parameters: here there\n  program_start:\n    function: begin\n    stack: $rsi\n"
    assert read_library_os(text, "mine.yaml").debug == Debug("here there", ProgramStart("begin", "$rsi"))
    with pytest.raises(UnikernelError, match="mine.yaml:.*'stack' not found"):
        read_library_os(text.replace("    stack: $rsi\n", ""), "mine.yaml")


def test_a_description_that_links() -> None:
    library_os = read_library_os(_LINKED, "mine.yaml")
    assert library_os.build == Link("mkimage", "mkimage", ("-O2", "-g"), ("-static", "-Wl,a b"))


@pytest.mark.parametrize(
    ("written", "instead", "error"),
    [
        ("title: A", "titel: A", "mine.yaml:2: while parsing a mapping, unexpected key not in schema 'titel'"),
        ("license: MIT\n", "", "mine.yaml.*required key.* 'license' not found"),
        ("architecture: x86_64", "architecture: vax", "mine.yaml:4: when expecting one of: aarch64, riscv64, x86_64"),
        ("kind: elf", "kind: kernel", "mine.yaml:10: when expecting one of: file, elf, program"),
        (
            "- static-pie",
            "- shared",
            "mine.yaml:16: when expecting one of: static, static-pie, dynamic, dynamic-pie, solo5, sources",
        ),
        ("memory: 16M", "memory: lots", "mine.yaml:29: when expecting an amount of memory, such as 16M"),
        ("in_image: yes", "in_image: perhaps", "mine.yaml:26: when expecting a boolean"),
        ("report: monitor-shifted", "report: none\n  failure: '('", "mine.yaml:41: when expecting a regular expression"),
        ("pack:", "honours:\n  - colour\npack:", "mine.yaml:19: when expecting one of: cpus, executable"),
        ("'two words'", "'two words", "mine.yaml:20: when expecting words, a quotation without an end"),
        ("name: mine\n", "name: mine\nname: mine\n", "mine.yaml:2: .*Duplicate key 'name'"),
        ("name: mine\n", "name: 'My OS'\n", "mine.yaml:1: "),
        ("rootfs: cpio", "rootfs: [cpio]", "mine.yaml:19: "),
        ("pack:", "pack: {", "mine.yaml:"),
    ],
)
def test_what_is_misspelt_or_missing_is_named_with_its_line(written: str, instead: str, error: str) -> None:
    assert written in _PACKED
    with pytest.raises(UnikernelError, match=error):
        read_library_os(_PACKED.replace(written, instead, 1), "mine.yaml")


@pytest.mark.parametrize(
    ("text", "written", "instead", "error"),
    [
        (_PACKED, "--kernel {kernel}", "--kernel {kernal}", "pack.command has {kernal}; there are kernel, mkimage, packed, rootfs"),
        (_PACKED, "standard_input: rootfs", "standard_input: image", "pack.standard_input is 'image', which is none of inputs"),
        (_LOADED, "kernel: kernel", "kernel: mkimage", "pack.kernel is 'mkimage', an input that is no elf"),
        (_PACKED, _COMMAND, "", "pack has neither a command nor a kernel"),
        (_PACKED, "kind: elf", "kind: elf\n    default: kernel", "inputs.kernel has a default, which is for programs only"),
        (_PACKED, "      machine: q35\n", "", "boot.machines.pc is QEMU's with both machine and cpu"),
        (_PACKED, "  machines:", "  elsewhere: by hand\n  machines:", "boot has either machines or elsewhere"),
        (_PACKED, "report: monitor-shifted", "report: console", "exit.status is there if, and only if"),
        (_PACKED, "report: monitor-shifted", "report: console\n  status: ended", "exit.status has one group"),
        (_PACKED, "-kernel {image}", "-kernel {images}", "boot.machines.pc.arguments has {images}"),
        (_PACKED, "-- {program}", "-- {app}", "command_line.form has {app}"),
        (_PACKED, "env=[ {words} ]", "env=[ {word} ]", "command_line.arguments or .environment has {word}"),
        (_PACKED, "report: monitor-shifted", "report: io-port", "exit.port is there if, and only if"),
        (_PACKED, "  - dynamic", "  - sources", "takes has sources, and nothing links them"),
        (_LINKED, "compiler: mkimage", "compiler: cc", "link.compiler is 'cc', which is none of inputs: kernel, mkimage"),
        (_LINKED, "  - sources", "  - static", "takes is for link only"),
        (_LINKED, "link:", "embed:\n  kit: linux\nlink:", "it says embed and link; one of embed, pack and link"),
        (_PACKED, "arguments: -display none", "arguments: -display {none", "braces"),
    ],
)
def test_parts_that_do_not_fit_together(text: str, written: str, instead: str, error: str) -> None:
    assert written in text
    with pytest.raises(UnikernelError, match=f"mine.yaml.*{re.escape(error)}"):
        read_library_os(text.replace(written, instead, 1), "mine.yaml")


def test_placeholders_are_names_in_braces() -> None:
    assert placeholders("{a} b {c}{d}") == ["a", "c", "d"]
    assert placeholders("{{a}}") == []
