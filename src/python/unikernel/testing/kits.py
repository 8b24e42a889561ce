"""Kits for tests: directories as `build_kit` and `build_init` write them, without a kernel in them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from unikernel.linux.kit import KitFacts


def exportable_kit(directory: Path, *, config: str = "CONFIG_NET=y\nCONFIG_SMP=y\n", **facts: object) -> tuple[Path, Path]:
    """The directory of a kit, and PID 1's program, below `directory`. `facts` replace those that it
    would have.
    """
    kit, init = directory / "kit", directory / "init"
    kit.mkdir(parents=True)
    init.write_bytes(b"PID 1")
    contents = {"kernel.o": b"kernel" * 1000, "vmlinux.lds": b"SECTIONS {}\n", "kernel.config": config.encode()}
    for name, content in contents.items():
        (kit / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    whole = hashlib.sha256("\n".join(digests.values()).encode()).hexdigest()
    usual = KitFacts("6.1.1", digests["kernel.config"], "50" * 32, 7, {"gcc": "gcc 12", "ld": "ld 2.40"}, whole)
    (kit / "kit.json").write_text(json.dumps({**asdict(usual), **facts}))
    return kit, init
