"""The kernel's source: a tarball, of which only what a step needs is ever unpacked."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError

# What Kconfig reads: every Kconfig file, the build system's own scripts, and the architecture's makefiles.
_KCONFIG_MEMBERS = ("*/Kconfig*", "*/Makefile", "*/scripts/*", "*/arch/x86/Makefile*")
_KCONFIG_EXCLUDED = (
    "*/tools/*",
    "*/scripts/gdb",
    "*/scripts/coccinelle",
    "*/scripts/dtc/*",
    "*/drivers/*/Makefile",
    "*/fs/*/Makefile",
)


def describe_source(patterns: Sequence[str], cache: Path) -> dict[str, str | int]:
    """The first source tarball that a pattern matches (the newest version where one matches several): its path, digest and size.

    `cache` is a directory that remembers the digest of a file that has not changed, by path, size and time of modification.
    """
    for pattern in patterns:
        matches = sorted(filter(os.path.isfile, glob.glob(os.path.expanduser(pattern))), key=_version_key)
        if not matches:
            continue
        path = Path(matches[-1]).resolve()
        status = path.stat()
        identity = hashlib.sha256(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}".encode()).hexdigest()
        remembered = cache / identity
        if not remembered.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            partial = cache / f"{identity}.{os.getpid()}"
            partial.write_text(file_sha256(path))
            partial.replace(remembered)
        return {"path": str(path), "sha256": remembered.read_text(), "size": status.st_size}
    raise UnikernelError(
        f"There is no kernel source: nothing matches {' or '.join(patterns)}. Install it (on Debian: apt-get install linux-source), or "
        "point [unikernel-linux].source to a linux-*.tar.xz."
    )


def _version_key(path: str) -> list[int]:
    """6.12-rc1 comes before 6.12, and that before 6.12.1; the name of a compression (bz2) is no part of it."""
    words = re.findall(r"-rc|\d+", os.path.basename(path).split(".tar", 1)[0])
    return [-1 if word == "-rc" else int(word) for word in words] + [0]


def unpack(source: Path, destination: Path, *, tar: str, members: Sequence[str] = (), excluded: Sequence[str] = ()) -> None:
    """Unpack members (patterns; all by default) of a source tarball into `destination`, without the tarball's top directory."""
    destination.mkdir(parents=True, exist_ok=True)
    command = [tar, "--extract", f"--file={source}", f"--directory={destination}", "--strip-components=1", "--no-same-owner"]
    command += ["--wildcards", "--wildcards-match-slash", *(f"--exclude={pattern}" for pattern in excluded), *members]
    # Debian's tarballs are compressed in blocks, which xz decompresses at the same time.
    environment = {**os.environ, "LC_ALL": "C", "XZ_DEFAULTS": "--threads=0"}
    try:
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise UnikernelError(
            f"The kernel source {source.name} cannot be unpacked: {tar} cannot be run ({error.strerror})."
        ) from error
    # Patterns that match nothing are an error for tar; which ones match depends on the kernel's version.
    expected = ("Not found in archive", "Exiting with failure status due to previous errors")
    lines = [line for line in result.stdout.decode(errors="replace").splitlines() if not line.endswith(expected)]
    if result.returncode != 0 and (lines or not (destination / "Makefile").is_file()):
        raise UnikernelError(f"The kernel source {source.name} cannot be unpacked: {'; '.join(lines[-3:]) or 'not a tarball'}")


def pack_kconfig(source: Path, archive: Path, *, tar: str, scratch: Path) -> None:
    """Writes what Kconfig needs of a source tarball: a few MB that configure in a second what takes ten to decompress."""
    tree = scratch / "kconfig"
    unpack(source, tree, tar=tar, members=_KCONFIG_MEMBERS, excluded=_KCONFIG_EXCLUDED)
    kernel_version(tree)
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as packed:
        for path in sorted(tree.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            info = packed.gettarinfo(str(path), "linux/" + str(path.relative_to(tree)))
            info.mtime = 0
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode = 0o755 if info.mode & 0o100 else 0o644
            if info.isreg():
                with path.open("rb") as stream:
                    packed.addfile(info, stream)
            else:
                packed.addfile(info)


def kernel_version(tree: Path) -> str:
    """ "6.1.192", from the top makefile. Raises UnikernelError when the tree is no kernel's."""
    makefile = tree / "Makefile"
    text = makefile.read_text(errors="replace")[:2000] if makefile.is_file() else ""
    numbers = [re.search(rf"^{name} *= *(\d+)", text, re.MULTILINE) for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if None in numbers:
        raise UnikernelError("The kernel source is not one: its tarball has no Makefile that names a kernel version.")
    return ".".join(match[1] for match in numbers if match is not None)
