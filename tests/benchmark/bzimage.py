"""The same kernel and root file system in the usual form, to compare with: a bzImage, and an initrd beside it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.image.contents import first_archive
from unikernel.image.manifest import read_manifest
from unikernel.linux.kit import COMPILER_FLAGS, FIXED_ENVIRONMENT
from unikernel.linux.source import describe_source, unpack
from unikernel.linux.steps import main as linux_step
from unikernel.rootfs.cpio import PAGE

SOURCES = ("/usr/src/linux-source-6.1.tar.xz", "/usr/src/linux-source-6.12.tar.xz", "/usr/src/linux-source-*.tar.xz")
# But for the sections of single functions and data, which the kernel's own link does not know.
_FLAGS = tuple(flag for flag in COMPILER_FLAGS if not flag.endswith("-sections"))
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "unikernel-benchmark")


def build_bzimage(command_line: str) -> Path:
    """Compiles it once, which takes minutes: it is kept in the user's cache directory."""
    source = Path(str(describe_source(SOURCES, _CACHE)["path"]))
    with tempfile.TemporaryDirectory(prefix="unikernel-bzimage-") as scratch:
        config = Path(scratch, "kernel.config")
        kconfig = Path(scratch, "kconfig.tar")
        tools = ["--make=make", "--tar=tar"]
        assert linux_step(["pack-kconfig", f"--source={source}", "--tar=tar", f"--output={kconfig}"]) == 0
        assert linux_step(["configure-kernel", f"--kconfig={kconfig}", *tools, f"--output={config}"]) == 0
        text = re.sub('^CONFIG_CMDLINE=".*"$', f'CONFIG_CMDLINE="{command_line}"', config.read_text(), flags=re.MULTILINE)
        key = hashlib.sha256(f"{file_sha256(source)}\n{text}\n{_FLAGS}".encode()).hexdigest()
        bzimage = _CACHE / f"bzImage-{key[:16]}"
        if bzimage.exists():
            return bzimage
        tree = Path(scratch, "linux")
        unpack(source, tree, tar="tar")
        (tree / ".config").write_text(text)
        command = ["make", f"--jobs={os.cpu_count()}", "--silent", "ARCH=x86_64", f"KCFLAGS={' '.join(_FLAGS)}", "bzImage"]
        environment = {**os.environ, **FIXED_ENVIRONMENT}
        subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _CACHE.mkdir(parents=True, exist_ok=True)
        partial = bzimage.with_suffix(".partial")
        partial.write_bytes((tree / "arch/x86/boot/bzImage").read_bytes())
        partial.rename(bzimage)
        return bzimage


def extract_initrd(image: Path, initrd: Path) -> None:
    """The root file system of an image: its archives, one after another."""
    content = image.read_bytes()
    start = first_archive(content)
    if start < 0:
        raise SystemExit(f"{image} has no root file system")
    layers = read_manifest(image).rootfs.layers
    size = sum(-(-layer.size // PAGE) * PAGE for layer in layers)
    initrd.write_bytes(content[start : start + size])
