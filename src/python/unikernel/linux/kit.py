"""The linkable kit: a compiled kernel that lacks only its root file system and its command line."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Mapping, Sequence

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.linux.configuration import COMMAND_LINE_MARKER
from unikernel.linux.source import kernel_version, unpack

_FACTS = "kit.json"
_KERNEL = "kernel.o"
_LINKER_SCRIPT = "vmlinux.lds"
# All of them are compiled into the kernel (Documentation/kbuild/reproducible-builds.rst).
_FIXED_ENVIRONMENT = {
    "KBUILD_BUILD_TIMESTAMP": "1980-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "unikernel",
    "KBUILD_BUILD_HOST": "unikernel",
    "KBUILD_BUILD_VERSION": "1",
    "LC_ALL": "C",
}
# Sources that no configuration of ours compiles. Their Kconfig files and makefiles stay: the build reads them all.
_NOT_COMPILED = (
    *("*/Documentation/*.rst", "*/Documentation/*.yaml", "*/Documentation/*.txt", "*/Documentation/*.svg"),
    *("*/tools/perf", "*/tools/testing", "*/tools/power", "*/LICENSES", "*.dts", "*.dtsi", "*/arch/*/configs/*_defconfig"),
    *(f"*/{directory}/*.[chS]" for directory in ("samples", "sound", "drivers/gpu", "drivers/media", "drivers/staging")),
    *(f"*/drivers/net/{directory}/*.[chS]" for directory in ("ethernet", "wireless")),
)
_LOG_LINES = 25


@dataclass(frozen=True)
class KitFacts:
    """`command_line_offset` is where in kernel.o the marker is that a command line is written over. Digests are SHA-256, in hex."""

    version: str
    config_sha256: str
    source_sha256: str
    command_line_offset: int
    tools: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class Kit:
    root: Path
    facts: KitFacts

    @classmethod
    def load(cls, root: Path) -> Kit:
        return cls(root, KitFacts(**json.loads((root / _FACTS).read_text())))

    @property
    def kernel(self) -> Path:
        return self.root / _KERNEL

    @property
    def linker_script(self) -> Path:
        return self.root / _LINKER_SCRIPT

    @property
    def version(self) -> str:
        return self.facts.version

    @property
    def sha256(self) -> str:
        return self.facts.sha256

    @property
    def config_sha256(self) -> str:
        return self.facts.config_sha256

    @property
    def command_line_offset(self) -> int:
        return self.facts.command_line_offset

    @property
    def inputs(self) -> dict[str, str]:
        return {"kernel source": self.facts.source_sha256, "kernel configuration": self.facts.config_sha256}

    @property
    def tools(self) -> dict[str, str]:
        return self.facts.tools


def build_kit(
    source: Path,
    config: Path,
    output: Path,
    *,
    jobs: int,
    environment: Mapping[str, str],
    make: str,
    tar: str,
    scratch: Path,
) -> None:
    """Compiles the kernel with a resolved configuration and writes the kit to the directory `output`.

    Raises UnikernelError with the end of the build's log when the build fails. The unpacked tree is gone afterwards.
    """
    scratch, output = scratch.absolute(), output.absolute()
    tree = scratch / "linux"
    unpack(source, tree, tar=tar, excluded=_NOT_COMPILED)
    version = kernel_version(tree)
    (tree / ".config").write_bytes(config.read_bytes())
    build = _Build(tree, {**environment, **_FIXED_ENVIRONMENT}, scratch / "build.log", version)
    arguments = [make, f"--jobs={jobs}", "--silent", "ARCH=x86_64"]
    build.run([*arguments, "vmlinux_o"])
    build.run([*arguments, "init/version-timestamp.o", "arch/x86/kernel/vmlinux.lds"])
    output.mkdir(parents=True, exist_ok=True)
    _combine(build, scratch, output / _KERNEL)
    (output / _LINKER_SCRIPT).write_bytes((tree / "arch/x86/kernel/vmlinux.lds").read_bytes())
    kernel = (output / _KERNEL).read_bytes()
    if kernel.count(COMMAND_LINE_MARKER) != 1:
        raise UnikernelError(f"Linux {version} was compiled without the place for a command line (CONFIG_CMDLINE).")
    config_sha256 = file_sha256(config)
    parts = [file_sha256(output / _KERNEL), file_sha256(output / _LINKER_SCRIPT), config_sha256]
    facts = KitFacts(
        version=version,
        config_sha256=config_sha256,
        source_sha256=file_sha256(source),
        command_line_offset=kernel.index(COMMAND_LINE_MARKER),
        tools={"gcc": build.first_line(["gcc", "--version"]), "ld": build.first_line(["ld", "--version"])},
        sha256=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
    )
    (output / _FACTS).write_text(json.dumps(asdict(facts), indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class _Build:
    """Commands in the kernel's tree, with their output in one log of which a failure shows the end."""

    tree: Path
    environment: dict[str, str]
    log: Path
    version: str

    def run(self, command: Sequence[str]) -> None:
        try:
            with self.log.open("ab") as log:
                result = subprocess.run(
                    command, cwd=self.tree, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )
        except OSError as error:
            raise UnikernelError(f"Linux {self.version} cannot be compiled: {command[0]} cannot be run ({error.strerror}).") from error
        if result.returncode != 0:
            lines = self.log.read_text(errors="replace").strip().splitlines()[-_LOG_LINES:]
            raise UnikernelError(
                f"Linux {self.version} does not compile; the last lines of its log:\n" + "\n".join(f"  {line}" for line in lines)
            )

    def first_line(self, command: Sequence[str]) -> str:
        return subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, check=True, encoding="utf-8", errors="replace"
        ).stdout.splitlines()[0]


def _combine(build: _Build, scratch: Path, output: Path) -> None:
    """All of the kernel but its initramfs, as one relocatable object without what a link does not need."""
    listed = subprocess.run(
        ["ar", "t", "vmlinux.a"], cwd=build.tree, env=build.environment, stdout=subprocess.PIPE, check=True, encoding="utf-8"
    ).stdout.split()
    members = [member for member in listed if not member.endswith("usr/initramfs_data.o")]
    combined = scratch / "combined.o"
    # A response file: there are more members than a command line takes.
    response = scratch / "members"
    response.write_text("".join(f'"{member}"\n' for member in members))
    build.run(
        ["ld", "-m", "elf_x86_64", "-r", "-o", str(combined), "--whole-archive", f"@{response}", "init/version-timestamp.o"]
        + ["--no-whole-archive", "--start-group", "lib/lib.a", "arch/x86/lib/lib.a", "--end-group"]
    )
    build.run(
        ["objcopy", "--strip-unneeded", "--remove-section=.comment", "--remove-section=.note.GNU-stack", str(combined), str(output)]
    )
