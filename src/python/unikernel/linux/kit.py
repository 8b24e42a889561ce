"""The linkable kit: a compiled kernel that lacks only its root file system and its command line."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import re
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.linux.marker import COMMAND_LINE_MARKER
from unikernel.linux.source import kernel_version, unpack
from unikernel.progress import Progress

_FACTS = "kit.json"
_KERNEL = "kernel.o"
_LINKER_SCRIPT = "vmlinux.lds"
# For people: what the kernel can do.
_CONFIG = "kernel.config"
# All of them are compiled into the kernel (Documentation/kbuild/reproducible-builds.rst).
FIXED_ENVIRONMENT = {
    "KBUILD_BUILD_TIMESTAMP": "1980-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "unikernel",
    "KBUILD_BUILD_HOST": "unikernel",
    "KBUILD_BUILD_VERSION": "1",
    "LC_ALL": "C",
}
# Sources that are not unpacked: other architectures', and those of subsystems whose option is off. All Kconfig files and makefiles
# are: the build reads them.
_NEVER_COMPILED = (
    *("*/Documentation/*/*", "*/LICENSES/*", "*/samples/*.[ch]", "*/tools/perf", "*/tools/testing", "*.dts", "*.dtsi"),
    *(
        f"*/arch/{architecture}/*.[chS]"
        for architecture in (
            *("alpha", "arc", "arm", "arm64", "csky", "hexagon", "ia64", "loongarch", "m68k", "microblaze", "mips", "nios2"),
            *("openrisc", "parisc", "powerpc", "riscv", "s390", "sh", "sparc", "xtensa"),
        )
    ),
)
_COMPILED_WITH = {
    "drivers/comedi": "CONFIG_COMEDI",
    "drivers/gpu": "CONFIG_DRM",
    "drivers/hwmon": "CONFIG_HWMON",
    "drivers/iio": "CONFIG_IIO",
    "drivers/infiniband": "CONFIG_INFINIBAND",
    "drivers/media": "CONFIG_MEDIA_SUPPORT",
    "drivers/net/ethernet": "CONFIG_ETHERNET",
    "drivers/net/wireless": "CONFIG_WLAN",
    "drivers/scsi": "CONFIG_SCSI",
    "drivers/staging": "CONFIG_STAGING",
    "drivers/usb": "CONFIG_USB_SUPPORT",
    "sound": "CONFIG_SOUND",
}
# Each function and datum in a section of its own, so that the kit keeps only what is referred to; no calls expanded to `rep` string
# instructions, which are slow under emulation; no self-test of BLAKE2s at each boot.
COMPILER_FLAGS = (
    *("-ffunction-sections", "-fdata-sections", "-fno-builtin-memset", "-fno-builtin-memcpy"),
    "-DCONFIG_CRYPTO_MANAGER_DISABLE_TESTS=1",
)
# Of ours, from kernel/, compiled with the kernel's headers: where in its tree, as files of their own that no makefile mentions.
_KERNEL_OBJECTS = {
    "rootfs.c": "init/unikernel_rootfs.o",
    "tcg.c": "init/unikernel_tcg.o",
    "virtqueues.c": "init/unikernel_virtqueues.o",
}
# Functions of the kernel that those stand in for (ld's option --wrap), and the options with any of which they are called.
_WRAPPED = {"vring_create_virtqueue": ("CONFIG_VIRTIO_MMIO", "CONFIG_VIRTIO_PCI")}
# The kernel's own linker script, made for a configuration.
_SCRIPT_IN_TREE = "arch/x86/kernel/vmlinux.lds"
# Options that need .entry.text at a multiple of 2 MiB, by their names before and since Linux 6.9: page table isolation has it in
# large pages of its own, and the mitigation of SRSO computes addresses from its own.
_ENTRY_TEXT_APART = {
    *("CONFIG_PAGE_TABLE_ISOLATION", "CONFIG_MITIGATION_PAGE_TABLE_ISOLATION"),
    *("CONFIG_CPU_SRSO", "CONFIG_MITIGATION_SRSO"),
}
_SECTIONS_OF_A_KERNEL = {".text", ".data", ".bss", ".init.text", ".init.data", ".head.text", ".entry.text"}
_PAGE = 4096
# "8", "0x200000", "(1 << 12)", "((1UL) << 21)".
_NUMBER = re.compile(r"[( ]*(0x[0-9a-fA-F]+|\d+)(?:UL)?[) ]*(?:<<[( ]*(\d+)[) ]*)?")
# What the final link has to bring along. 2: the root file system between __unikernel_rootfs and __unikernel_rootfs_end.
_LAYOUT = 2
# Option -> the header that the build's own programs include when it is on, and the Debian package that has it.
_HEADERS = {
    "CONFIG_OBJTOOL": ("gelf.h", "libelf-dev"),
    "CONFIG_SYSTEM_TRUSTED_KEYRING": ("openssl/opensslv.h", "libssl-dev"),
}
# All of the kernel's objects, its archives, and vmlinux.lds.
_EVERYTHING = "vmlinux_o"
# What the build prints of each step: "  CC      init/main.o", and by its dry run also "echo '  CC      init/main.o'; ...".
_STEP_OF_THE_BUILD = re.compile(r"  [A-Z0-9]+ +(\[M\] +)?\S+$")
_FILE_OF_A_PROGRAM = re.compile(r"  (?:HOSTCC|CC) +\S+\.o$")
_COMPILATION = re.compile(r"(?:.*\becho ')?  (?:CC|AS) +[^/' ]\S*?\.o(?:'|$)")
# Of both series with Debian's compilers: for the announcement.
_PROCESSOR_MINUTES = 6
_OTHER_LINUX = (
    "Point [unikernel-linux].source to a source of Linux 6.1 or 6.12, or use a version of unikernel that supports this Linux."
)
_LOG_LINES = 25
_WATCH_SECONDS = 2
# Who wants the kit: looked at now, before anything takes time.
_PARENT = os.getppid()


@dataclass(frozen=True)
class KitFacts:
    """`command_line_offset` is where in kernel.o the marker is that a command line is written over. Digests are SHA-256, in hex."""

    version: str
    config_sha256: str
    source_sha256: str
    command_line_offset: int
    tools: dict[str, str]
    sha256: str
    layout: int = _LAYOUT


@dataclass(frozen=True)
class Kit:
    root: Path
    facts: KitFacts

    @classmethod
    def load(cls, root: Path) -> Kit:
        """Raises UnikernelError for a kit that another version of this toolkit made, and that this one would link wrongly."""
        document = json.loads((root / _FACTS).read_text())
        if document.get("layout") != _LAYOUT:
            raise UnikernelError(f"The kit {root} was made by another version of unikernel: build it anew.")
        return cls(root, KitFacts(**document))

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
    def options(self) -> list[str]:
        """Those of its configuration that are set, by name, such as "HZ=100"."""
        lines = (self.root / _CONFIG).read_text().splitlines()
        return sorted(line[len("CONFIG_") :] for line in lines if line.startswith("CONFIG_"))

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
    progress: Progress | None = None,
) -> None:
    """Compile the kernel with a resolved configuration and write the kit to the directory `output`.

    Raises UnikernelError with the end of the build's log when the build fails. The unpacked tree is gone afterwards.
    """
    scratch, output = scratch.absolute(), output.absolute()
    progress = progress or Progress()
    tree = scratch / "linux"
    text = config.read_text()
    enabled = _enabled(text)
    _check_headers(enabled, environment)
    progress.report(announcement(text, jobs))
    progress.report("Unpacking the kernel's source")
    unpack(source, tree, tar=tar, excluded=_excluded(enabled))
    version = kernel_version(tree)
    (tree / ".config").write_text(text)
    build = _Build(tree, {**environment, **FIXED_ENVIRONMENT}, scratch / "build.log", version)
    arguments = [make, f"--jobs={jobs}", "ARCH=x86_64", f"KCFLAGS={' '.join(COMPILER_FLAGS)}"]
    count = _compile(build, arguments, progress)
    progress.report(f"Linux {version}: {count}, linking the kit")
    for name, object_file in _KERNEL_OBJECTS.items():
        (tree / object_file).with_suffix(".c").write_bytes(_source(name))
    build.run([*arguments, "--silent", "init/version-timestamp.o", _SCRIPT_IN_TREE, *_KERNEL_OBJECTS.values()])
    output.mkdir(parents=True, exist_ok=True)
    _combine(build, scratch, output / _KERNEL, enabled)
    (output / _LINKER_SCRIPT).write_text(adapt_linker_script((tree / _SCRIPT_IN_TREE).read_text(), version, enabled))
    kernel = (output / _KERNEL).read_bytes()
    if kernel.count(COMMAND_LINE_MARKER) != 1:
        raise UnikernelError(f"Linux {version} was compiled without the place for a command line (CONFIG_CMDLINE).")
    (output / _CONFIG).write_bytes(config.read_bytes())
    config_sha256 = file_sha256(config)
    parts = [file_sha256(output / _KERNEL), file_sha256(output / _LINKER_SCRIPT), config_sha256]
    facts = KitFacts(
        version=version,
        config_sha256=config_sha256,
        source_sha256=file_sha256(source),
        command_line_offset=kernel.index(COMMAND_LINE_MARKER),
        tools={"gcc": build.lines(["gcc", "--version"])[0], "ld": build.lines(["ld", "--version"])[0]},
        sha256=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
    )
    (output / _FACTS).write_text(json.dumps(asdict(facts), indent=1, sort_keys=True) + "\n")


def announcement(config: str, jobs: int) -> str:
    """Return what is about to happen and how long it takes, in a line. `config` is a .config."""
    version = re.search(r"^# Linux/\S+ (\S+) Kernel Configuration$", config, re.MULTILINE)
    minutes = max(1, round(_PROCESSOR_MINUTES / jobs))
    name = f"Linux {version[1]}" if version else "Linux"
    return (
        f"Compiling {name}: once per configuration, about {minutes} minute{'s' * (minutes > 1)} on {jobs} idle "
        f"core{'s' * (jobs > 1)}; later builds reuse it"
    )


def is_compilation(line: str) -> bool:
    """Whether a line that the kernel's build prints, or would execute by its dry run, is about one more file of the kernel itself."""
    return _COMPILATION.match(line) is not None


@dataclass
class FileCount:
    """The number of files that are compiled, of all that there are."""

    total: int
    done: int = 0

    def add(self) -> None:
        """Count one more file. A total that was too low is corrected."""
        self.done += 1
        self.total = max(self.total, self.done)

    def finish(self) -> None:
        """Correct a total that was too high."""
        self.total = self.done

    def __str__(self) -> str:
        return f"compiled {self.done:,} of {self.total:,} files"


def _compile(build: _Build, arguments: Sequence[str], progress: Progress) -> FileCount:
    """Compile all of the kernel's objects. `arguments` start the kernel's makefile."""
    programs, name = FileCount(0), f"Linux {build.version}"

    def count_programs(line: str) -> None:
        if _FILE_OF_A_PROGRAM.match(line):
            programs.add()
            progress.count(f"{name}: compiling the programs that its build needs, file {programs.done}")

    progress.report(f"{name}: compiling the programs that its build needs")
    build.run([*arguments, "prepare"], count_programs)
    # A dry run that fails counts too few files, which is corrected when the others are compiled.
    count = FileCount(sum(map(is_compilation, build.lines([*arguments, "--dry-run", _EVERYTHING], check=False))))

    def count_files(line: str) -> None:
        if is_compilation(line):
            # The build prints it when it starts with a file: the one before it is done.
            progress.count(f"{name}: {count}")
            count.add()

    progress.report(f"{name}: {count}")
    build.run([*arguments, _EVERYTHING], count_files)
    count.finish()
    return count


@dataclass(frozen=True)
class _Build:
    """Commands in the kernel's tree, with their output in one log of which a failure shows the end."""

    tree: Path
    environment: dict[str, str]
    log: Path
    version: str

    def run(self, command: Sequence[str], on_line: Callable[[str], None] | None = None) -> None:
        """Run a command; `on_line` is called with each line that it prints, some seconds later at most."""
        try:
            with self.log.open("wb") as log:
                process = subprocess.Popen(
                    command, cwd=self.tree, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )
        except OSError as error:
            raise UnikernelError(
                f"Linux {self.version} cannot be compiled: {command[0]} cannot be run ({error.strerror})."
            ) from error
        with self.log.open(encoding="utf-8", errors="replace") as log:
            status = _wait_unless_orphaned(process, lambda: _each_line(log, on_line))
        if status != 0:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            lines = [line for line in lines if not _STEP_OF_THE_BUILD.match(line)][-_LOG_LINES:]
            raise UnikernelError(
                f"Linux {self.version} does not compile; the last lines of its log:\n" + "\n".join(f"  {line}" for line in lines)
            )

    def lines(self, command: Sequence[str], *, check: bool = True) -> list[str]:
        """Return the lines that a command prints. With `check`, it must not fail."""
        return subprocess.run(
            command,
            cwd=self.tree,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if check else subprocess.DEVNULL,
            check=check,
            encoding="utf-8",
            errors="replace",
        ).stdout.splitlines()


def _each_line(log: IO[str], on_line: Callable[[str], None] | None) -> None:
    """Pass on the lines that were added to a file that is still written; the start of one that is incomplete is left for later."""
    while on_line is not None:
        position = log.tell()
        line = log.readline()
        if not line.endswith("\n"):
            log.seek(position)
            return
        on_line(line)


def _wait_unless_orphaned(process: subprocess.Popen[bytes], look: Callable[[], None]) -> int:
    """Return the exit status, and call `look` every now and then until then, and once more after.

    When the build system is killed, the compilation ends too: nobody waits for the minutes that it takes.
    """
    while True:
        try:
            status = process.wait(_WATCH_SECONDS)
            look()
            return status
        except subprocess.TimeoutExpired:
            look()
            if os.getppid() != _PARENT:
                process.terminate()
                process.wait()
                raise UnikernelError("Whoever started this build is gone; it ends here.") from None


def _enabled(config: str) -> set[str]:
    return {line.split("=", 1)[0] for line in config.splitlines() if line.startswith("CONFIG_")}


def _check_headers(enabled: set[str], environment: Mapping[str, str]) -> None:
    """A missing one would end the compilation in its midst, with a compiler's message."""
    missing = {
        header: package
        for option, (header, package) in sorted(_HEADERS.items())
        if option in enabled and not _compiler_finds(header, environment)
    }
    if missing:
        raise UnikernelError(
            f"The kernel cannot be compiled: gcc does not find {', '.join(missing)}. Install what brings it (on Debian: "
            f"apt-get install {' '.join(missing.values())})."
        )


def _compiler_finds(header: str, environment: Mapping[str, str]) -> bool:
    command = ["gcc", "-E", "-x", "c", "-include", header, "-o", os.devnull, os.devnull]
    try:
        return subprocess.run(command, env=dict(environment), stderr=subprocess.DEVNULL).returncode == 0
    except OSError as error:
        raise UnikernelError(f"The kernel cannot be compiled: gcc cannot be run ({error.strerror}).") from error


def _excluded(enabled: set[str]) -> list[str]:
    off = [directory for directory, symbol in sorted(_COMPILED_WITH.items()) if symbol not in enabled]
    return [*_NEVER_COMPILED, *(f"*/{directory}/*.[chS]" for directory in off)]


def _combine(build: _Build, scratch: Path, output: Path, enabled: Collection[str]) -> None:
    """Link all of the kernel but its root file system into one relocatable object without what nothing refers to.

    Sections of single functions and data may go. All others (init calls, exception tables, alternatives, parameters, assembly) are
    roots, and stay with all that they refer to.
    """
    objects = [member for member in build.lines(["ar", "t", "vmlinux.a"]) if not member.endswith("usr/initramfs_data.o")]
    objects += ["init/version-timestamp.o", *_KERNEL_OBJECTS.values()]
    # A response file: there are more members than a command line takes.
    response = scratch / "objects"
    response.write_text("".join(f'"{name}"\n' for name in objects))
    link = ["ld", "-m", "elf_x86_64", "-z", "noexecstack", "-r", *(f"--wrap={name}" for name in _WRAPPED)]
    inputs = ["--whole-archive", f"@{response}", "--no-whole-archive"]
    inputs += ["--start-group", "lib/lib.a", "arch/x86/lib/lib.a", "--end-group"]
    collected, script = scratch / "collected.o", scratch / "collect.lds"
    headers = build.lines(["objdump", "--section-headers", f"@{response}", "lib/lib.a", "arch/x86/lib/lib.a"])
    script.write_text(collecting_script(headers, build.version))
    roots = [f"--script={script}", "--entry=startup_64", "--undefined=jiffies_64"]
    build.run([*link, "--gc-sections", *roots, "-o", str(collected), *inputs])
    build.run(["objcopy", "--strip-unneeded", str(collected), str(output)])
    check_wrapped(build.lines(["nm", str(output)]), build.version, enabled)


def check_wrapped(symbols: Sequence[str], version: str, enabled: Collection[str]) -> None:
    """Raise UnikernelError when a function of ours stands in for none of the kernel's, though an option that calls it is enabled.

    `symbols` is what nm prints of kernel.o. The linker does not mind an option --wrap for a function that nobody calls: when Linux
    renames it, ours is left out.
    """
    defined = {line.split()[-1] for line in symbols if line.split()[1:2] == ["T"]}
    for name, options in _WRAPPED.items():
        if f"__wrap_{name}" not in defined and not set(options).isdisjoint(enabled):
            raise UnikernelError(
                f"Linux {version}: nothing calls {name}(), which this version of unikernel puts its own in place of. {_OTHER_LINUX}"
            )


def _source(name: str) -> bytes:
    return (importlib.resources.files("unikernel.linux") / "kernel" / name).read_bytes()


def adapt_linker_script(text: str, version: str, enabled: Collection[str]) -> str:
    """Return the kernel's linker script as the kit needs it, for a kernel with the options `enabled`.

    Raises UnikernelError when the script lacks a part that has to be changed: an image that is several MB larger, or slower to
    start, would be the only sign otherwise.
    """
    try:
        text = keep_init_text(text)
        return text if _ENTRY_TEXT_APART & set(enabled) else close_entry_text(text)
    except _UnknownPart as error:
        raise UnikernelError(
            f"Linux {version}: its linker script {_SCRIPT_IN_TREE} has {error}, but this version of unikernel changes that part. "
            f"{_OTHER_LINUX}"
        ) from None


class _UnknownPart(Exception):
    """A part of a linker script that is missing or of an unknown shape; the message completes "the script has ..."."""


def keep_init_text(linker_script: str) -> str:
    """Return the kernel's linker script with .init.text before what is freed after start-up, as other architectures have it
    (include/asm-generic/sections.h).

    Linux overwrites what it frees. Under QEMU's emulation a write to a page of which code has run throws translations away, one
    after another: for these 150 KiB it took a tenth of the start-up of a small program.
    """
    start = _output_section(linker_script, ".init.begin")
    without = linker_script[: start.start()] + linker_script[start.end() :]
    code, last = _output_section(without, ".init.text"), _output_section(without, ".altinstr_aux")
    if not start.start() <= code.start() < last.start():
        raise _UnknownPart("no sections .init.begin, .init.text and .altinstr_aux in this order")
    return f"{without[: last.end()]} . = ALIGN(4096);\n{start[0]}{without[last.end() :]}"


def close_entry_text(linker_script: str) -> str:
    """Return the kernel's linker script without the gaps around .entry.text, up to 2 MiB each, in the file as well as in memory.

    They are for page table isolation (ALIGN_ENTRY_TEXT_BEGIN in arch/x86/kernel/vmlinux.lds.S).
    """
    section = _output_section(linker_script, ".text")
    if "*(.entry.text)" not in section[0]:
        raise _UnknownPart("no *(.entry.text) in its section .text")

    def at_most_a_page(match: re.Match[str]) -> str:
        number = _NUMBER.fullmatch(match[1])
        if number is None:
            raise _UnknownPart(f"an alignment of an unknown form in its section .text, {match[0]}")
        alignment = int(number[1], 0) << int(number[2] or "0")
        return match[0] if alignment <= _PAGE else f". = ALIGN({_PAGE});"

    closed = re.sub(r"\. = ALIGN\((.*?)\);", at_most_a_page, section[0])
    return linker_script[: section.start()] + closed + linker_script[section.end() :]


def _output_section(linker_script: str, name: str) -> re.Match[str]:
    """Find the whole statement of an output section, with its line's end."""
    header = rf"(?:^|(?<=;)) *{re.escape(name)} : [^{{}}]*"
    found = re.search(rf"{header}\{{[^{{}}]*\}}[^\n]*\n", linker_script, re.MULTILINE)
    if found is None:
        raise _UnknownPart(f"no section {name}")
    return found


def collecting_script(section_headers: Sequence[str], version: str) -> str:
    """Return the linker script of the relocatable object, from what `objdump --section-headers` prints of all of its input.

    Raises UnikernelError when that has no section of a kernel's: the linker would drop what the script does not name.
    """
    words = (line.split() for line in section_headers)
    names = sorted({line[1] for line in words if len(line) > 1 and line[0].isdigit()})
    missing = _SECTIONS_OF_A_KERNEL - set(names)
    if missing:
        raise UnikernelError(f"Linux {version}: its objects have no section {', '.join(sorted(missing))}. {_OTHER_LINUX}")
    lines = [f" .{name} 0 : {{ KEEP(*(.{name})) *(.{name}.[0-9A-Za-z_]*) }}" for name in ("text", "data", "bss")]
    # Constants that the final link merges stay apart from those that it cannot.
    for kind in ("str1.1", "str1.8", "cst2", "cst4", "cst8", "cst16", "cst32"):
        lines.append(f" .rodata.{kind} 0 : {{ *(.rodata.{kind} .rodata.*.{kind}) }}")
    lines.append(" .rodata 0 : { KEEP(*(.rodata)) *(.rodata.[0-9A-Za-z_]*) }")
    collected = re.compile(r"\.(text|data|bss|rodata)(\.[0-9A-Za-z_].*)?")
    dropped = re.compile(r"\.(comment|note\.GNU-stack|discard\..*)")
    for name in names:
        if not collected.fullmatch(name) and not dropped.fullmatch(name):
            lines.append(f" {name} 0 : {{ KEEP(*({name})) }}")
    lines.append(" /DISCARD/ : { *(.comment) *(.note.GNU-stack) *(.discard.*) }")
    return "\n".join(["SECTIONS {", *lines, "}"]) + "\n"
