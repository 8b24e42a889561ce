"""Images for tests: ELF files with a manifest's note, and small ones that are linked as real ones are, without a kernel in them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

from unikernel.image import manifest as image_manifest
from unikernel.image.link import link_image
from unikernel.image.spec import ImageSpec
from unikernel.linux.kit import Kit, KitFacts
from unikernel.linux.marker import COMMAND_LINE_MARKER
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.testing.programs import compile_c, tiny_program

_SCRIPT = """\
ENTRY(_start)
PHDRS { text PT_LOAD FLAGS(7); note PT_NOTE FLAGS(4); }
SECTIONS
{
  . = 0x200000;
  .text : { *(.text .text.*) } :text
  .rodata : { *(.rodata .rodata.* .data .bss .eh_frame) }
  .notes : { *(.note.*) } :text :note
  .data : { *(.data..page_aligned) *(.init.ramfs.info) } :text
  /DISCARD/ : { *(.comment) }
}
"""


def image_with_note(path: Path, descriptor: bytes) -> Path:
    note = path.with_suffix(".note")
    note.write_bytes(image_manifest.note(descriptor))
    source = path.with_suffix(".s")
    source.write_text(
        ".globl _start\n_start: hlt\n"
        f'.section .note.other, "a", @note\n.balign 4\n.long 4, 4, 1\n.asciz "GNU"\n.long 0\n'
        f'.section .note.unikernel, "a", @note\n.balign 4\n.incbin "{note}"\n'
    )
    compiled = path.with_suffix(".o")
    subprocess.run(["as", "-o", str(compiled), str(source)], check=True)
    subprocess.run(["ld", "-o", str(path), str(compiled)], check=True)
    return path


def make_kit(root: Path, kernel: bytes, offset: int) -> Kit:
    root.mkdir()
    (root / "kernel.o").write_bytes(kernel)
    facts = KitFacts("6.1.1", "c0", "50", offset, {"gcc": "12"}, "ki")
    (root / "kit.json").write_text(json.dumps(asdict(facts)))
    return Kit(root, facts)


def small_kit(tmp_path: Path) -> Kit:
    """A "kernel" of one function, with a place for a command line."""
    source = f'const char command_line[{len(COMMAND_LINE_MARKER)}] = "{COMMAND_LINE_MARKER.decode()}"; void _start(void) {{}}'
    kernel = compile_c(tmp_path / "k.o", source, "-c", "-ffreestanding").read_bytes()
    kit = make_kit(tmp_path / "kit", kernel, kernel.index(COMMAND_LINE_MARKER))
    kit.linker_script.write_text(_SCRIPT)
    (kit.root / "kernel.config").write_text("CONFIG_NET=y\n# CONFIG_IPV6 is not set\nCONFIG_HZ=100\n")
    return kit


def link_small_image(tmp_path: Path, kit: Kit, name: str, spec: ImageSpec, *, link: str = "") -> bytes:
    """Writes the image to `tmp_path / name`; returns its content. Its program is also at the path `link`, a symbolic link."""
    layer = Layer("application")
    if link:
        layer.add_symlink(link, "/app/hello")
    layer.add_file("/app/hello", tiny_program(tmp_path / "hello"))
    start = {"program": "/app/hello", "arguments": ["/app/hello"], "environment": {"A": "1", "B": "2"}}
    layer.write(tmp_path / "application.cpio", LayerIndex("application", [], facts={"start": start}))
    scratch = tmp_path / f"scratch-{name}"
    scratch.mkdir()
    init = tmp_path / "init"
    init.write_bytes(b"PID 1")
    link_image(
        spec,
        kit=kit,
        init=init,
        layers=[tmp_path / "application.cpio"],
        output=tmp_path / name,
        scratch=scratch,
        assembler="as",
        linker="ld",
    )
    return (tmp_path / name).read_bytes()
