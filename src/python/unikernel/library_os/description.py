"""The shape of a library OS's description: see docs/library-os.md. `reader` makes one of a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class InputKind(str, Enum):
    """`ELF` is a file for the library OS's architecture; `PROGRAM` runs on the build machine."""

    FILE = "file"
    ELF = "elf"
    PROGRAM = "program"


@dataclass(frozen=True)
class Input:
    """Something that a library OS needs, and that its user brings. `what` is for people; `default` is a name to look for on PATH."""

    what: str
    kind: InputKind
    default: str = ""


class AppKind(str, Enum):
    """What an application may be. The first three are ELF programs."""

    STATIC = "static"
    STATIC_PIE = "static-pie"
    DYNAMIC = "dynamic"
    SOURCES = "sources"


class RootfsForm(str, Enum):
    """How a root file system is written down to be packed."""

    CPIO = "cpio"
    DIRECTORY = "directory"
    NANOS_MANIFEST = "nanos-manifest"


@dataclass(frozen=True)
class Embed:
    """The root file system is linked into a kernel that is compiled for it. `kit` says which rules know how: those for "linux"."""

    kit: str


@dataclass(frozen=True)
class Pack:
    """`command` is words with {placeholders}: of inputs by name, {rootfs} and {image}; empty when the root file system as it is written
    down is what boots, beside the kernel. `standard_input` names the placeholder whose file the command reads.
    """

    rootfs: RootfsForm
    command: tuple[str, ...] = ()
    standard_input: str = ""
    deterministic: bool = True


@dataclass(frozen=True)
class Link:
    """`compiler` and `objcopy` are inputs. Flags are words with {placeholders} of inputs, such as a linker script."""

    compiler: str
    objcopy: str
    compile_flags: tuple[str, ...]
    link_flags: tuple[str, ...]


class Quoting(str, Enum):
    """How a word is written down. `NONE` and `DOUBLED_COMMAS` (QEMU's) have no way to write spaces."""

    NONE = "none"
    DOUBLED_COMMAS = "doubled-commas"
    DOUBLE_QUOTES = "double-quotes"
    PERCENT = "percent"


@dataclass(frozen=True)
class CommandLine:
    """Texts with {placeholders}. `form`: {program}, {arguments}, {environment}, {network}. `arguments` and `environment` are what is
    around all {words} of them, nothing where there are none (`no_arguments` where something has to be); `word` is one {word}, `variable`
    one variable's {name} and {value}, and `separator` stands between words. `network` is by mode.

    `in_image` tells that an image has its own arguments in it, so that at boot only further ones are given. `longest` is in bytes, for
    both together; 0 is without a limit.
    """

    form: str
    quoting: Quoting
    in_image: bool
    arguments: str = "{words}"
    no_arguments: str = ""
    environment: str = ""
    word: str = "{word}"
    variable: str = "{name}={value}"
    separator: str = " "
    network: Mapping[str, str] = field(default_factory=dict)
    longest: int = 0


@dataclass(frozen=True)
class KvmProbe:
    """What proves that KVM runs a guest: with `append` on the kernel's command line, `sign` is on the console."""

    append: str
    sign: str


@dataclass(frozen=True)
class QemuMachine:
    """A QEMU machine that boots the image. `network_device` takes a `netdev=` property; `cpu` picks CPUs: accelerator -> CPU. `arguments`
    are words with {placeholders}: {image}, {rootfs}, {command_line}, and inputs by name; the character device `console` is there for
    what the application prints.
    """

    program: str
    machine: str
    cpu: Mapping[str, str]
    arguments: tuple[str, ...]
    network_device: str = ""


class ExitReport(str, Enum):
    """`IO_PORT`: the guest writes the status to an I/O port; `MONITOR`: it is QEMU's own exit status; `MONITOR_SHIFTED`: that is
    (status << 1) | 1, as QEMU's isa-debug-exit makes it; `NONE`: it is lost.
    """

    IO_PORT = "io-port"
    MONITOR = "monitor"
    MONITOR_SHIFTED = "monitor-shifted"
    NONE = "none"


@dataclass(frozen=True)
class Exit:
    report: ExitReport
    port: int = 0


@dataclass(frozen=True)
class Limits:
    """What the library OS can do for its application."""

    fork: bool = True
    exec: bool = True
    threads: bool = True
    dynamic_loading: bool = True
    files: bool = True
    ipv6: bool = True


@dataclass(frozen=True)
class LibraryOs:
    """`title`, `tried` and `published` are for people: what it is, what it was tried with, where its kernels are. `machines` are by name,
    the default first.
    """

    name: str
    title: str
    license: str
    architecture: str
    tried: str
    published: str
    inputs: Mapping[str, Input]
    takes: tuple[AppKind, ...]
    build: Embed | Pack | Link
    command_line: CommandLine
    minimum_memory: int
    machines: Mapping[str, QemuMachine]
    kvm_probe: KvmProbe | None
    exit: Exit
    limits: Limits
