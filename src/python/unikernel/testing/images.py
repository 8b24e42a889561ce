"""ELF files with a manifest's note, without a kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

from unikernel.image.manifest import note_header


def image_with_note(path: Path, descriptor: bytes) -> Path:
    note = path.with_suffix(".note")
    note.write_bytes(note_header(len(descriptor)) + descriptor + bytes(-len(descriptor) % 4))
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
