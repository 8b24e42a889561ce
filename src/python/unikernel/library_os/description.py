"""The shape of a library OS's description: see docs/library-os.md. `reader` makes one of a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional, Union

# Fields of an image that only some library OSes can do something with: those that one `honours`.
CONFIGURABLE = (
    "cpus",
    "executable",
    "files",
    "gateway",
    "hostname",
    "ip_address",
    "kernel_config",
    "kernel_parameters",
    "nameservers",
    "network",
    "ports",
    "timezone",
    "working_directory",
)

# What boots an image's ELF file itself, beside the machines that a description has: see unikernel.hypervisors.
HYPERVISORS = ("cloud-hypervisor", "firecracker", "libvirt", "xl")


class InputKind(str, Enum):
    """`ELF` is a file for the library OS's architecture; `PROGRAM` runs on the build machine."""

    FILE = "file"
    ELF = "elf"
    PROGRAM = "program"


@dataclass(frozen=True)
class Input:
    """Something that a library OS needs, and that its user brings. `what` is for people; `default` is a name to look for on PATH, for
    programs. `machine` is an ELF file's, as `uname -m` says it, where it is not the library OS's architecture.
    """

    what: str
    kind: InputKind
    default: str = ""
    machine: str = ""


# What a library OS can send beside its console: what the application prints, and what is left of it when it crashes.
STREAMS = ("stdout", "stderr", "crash")


class AppKind(str, Enum):
    """What an application may be. All but the last are ELF programs; those of ELF's type ET_DYN run at any address ("pie"), and those
    for Solo5 are linked with it.
    """

    STATIC = "static"
    STATIC_PIE = "static-pie"
    DYNAMIC = "dynamic"
    DYNAMIC_PIE = "dynamic-pie"
    SOLO5 = "solo5"
    SOURCES = "sources"


class RootfsForm(str, Enum):
    """How a root file system is written down to be packed. `PROGRAM` is the application's program alone."""

    CPIO = "cpio"
    DIRECTORY = "directory"
    NANOS_MANIFEST = "nanos-manifest"
    OSV_MANIFEST = "osv-manifest"
    PROGRAM = "program"


@dataclass(frozen=True)
class Embed:
    """The root file system is linked into a kernel that is compiled for it. `kit` says which rules know how: those for "linux"."""

    kit: str


@dataclass(frozen=True)
class Pack:
    """`command` is words with {placeholders}: inputs by name, {rootfs} as it is written down, and {packed}, the file that it makes;
    without a command, the root file system as it is written down is what was packed. `standard_input` names the placeholder whose file
    the command reads.

    `kernel` is the input, an ELF file, that becomes the image with what was packed as a section; without one, what was packed is the
    image. `suffix` is that of the image's file.
    """

    rootfs: RootfsForm
    command: tuple[str, ...] = ()
    standard_input: str = ""
    kernel: str = ""
    suffix: str = "elf"
    deterministic: bool = True


@dataclass(frozen=True)
class Generate:
    """A source that is made of a document: `text` ({placeholders}: {network}, which is the text of the same name where an image has one)
    goes to the file `document`, unless the application brings a file of that name, and `command` ({placeholders}: inputs by name,
    {document}, {source}) makes the C file `source` of it.
    """

    document: str
    text: str
    command: tuple[str, ...]
    source: str
    network: str = ""


@dataclass(frozen=True)
class Link:
    """`compiler` and `objcopy` are inputs. Flags are words with {placeholders} of inputs, such as a linker script. `version` are words of
    a command that prints the library OS's version; without it, that is the version of the package that brought its C library.
    """

    compiler: str
    objcopy: str
    compile_flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    generate: Optional[Generate] = None
    version: tuple[str, ...] = ()


class Quoting(str, Enum):
    """How a word is written down. `NONE` and `DOUBLED_COMMAS` (QEMU's) have no way to write spaces; in `DOUBLE_QUOTES` a backslash is
    before quotes and backslashes.
    """

    NONE = "none"
    DOUBLED_COMMAS = "doubled-commas"
    DOUBLE_QUOTES = "double-quotes"
    PERCENT = "percent"


@dataclass(frozen=True)
class CommandLine:
    """Texts with {placeholders}. `form`: {program}, {arguments}, {environment}, {network}. `arguments` and `environment` are what is
    around all {words} of them, nothing where there are none (`no_arguments` where something has to be); `word` is one {word}, `variable`
    one variable's {name} and {value}, and `separator` stands between words. `network` is by mode.

    `in_image` tells that an image has its own arguments in it, so that at boot only further ones are given, if `form` has a place for
    them. `empty_words` tells whether an empty word can be given, and `not_in_variables` are characters that a variable cannot have.
    `longest` is in bytes, for both together; 0 is without a limit.
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
    empty_words: bool = True
    not_in_variables: str = ""


@dataclass(frozen=True)
class KvmProbe:
    """What proves that KVM runs a guest: with `append` on the kernel's command line, `sign` is on the console."""

    append: str
    sign: str


@dataclass(frozen=True)
class Machine:
    """What boots the image: a QEMU machine, or without `machine` a program that is no QEMU. `arguments` are words with {placeholders}:
    {image}, {rootfs} (what was packed beside a kernel), {command_line}, {memory} (MiB).

    For QEMU: `network_device` takes a `netdev=` property; `cpu` picks CPUs: accelerator -> CPU; the character device `console` is
    there for what is printed; and `stream_controller` is the device that virtio consoles are attached to, for the library OS's streams.
    """

    program: str
    arguments: tuple[str, ...]
    machine: str = ""
    cpu: Mapping[str, str] = field(default_factory=dict)
    network_device: str = ""
    stream_controller: str = ""


class ExitReport(str, Enum):
    """`IO_PORT`: the guest writes the status to an I/O port; `MONITOR`: it is the exit status of what boots the image;
    `MONITOR_SHIFTED`: that is (status << 1) | 1, as QEMU's isa-debug-exit makes it; `CONSOLE`: it is on the console; `NONE`: it is lost.
    """

    IO_PORT = "io-port"
    MONITOR = "monitor"
    MONITOR_SHIFTED = "monitor-shifted"
    CONSOLE = "console"
    NONE = "none"


@dataclass(frozen=True)
class Exit:
    """Regular expressions for lines of the console: `status` has the status as its group 1, for `CONSOLE`; `failure` tells that the
    library OS itself failed, whatever else is reported. `success` are statuses that mean 0, for `MONITOR`.
    """

    report: ExitReport
    port: int = 0
    success: tuple[int, ...] = ()
    status: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Limits:
    """What the library OS can do for its application: see unikernel.rootfs.needs."""

    c_library: bool = True
    fork: bool = True
    exec: bool = True
    threads: bool = True
    dynamic_loading: bool = True
    files: bool = True
    network: bool = True
    ipv6: bool = True


@dataclass(frozen=True)
class Urunc:
    """As the container runtime urunc knows it: the type of unikernel, what boots it, and the first words of an image's entrypoint
    ({name}, {program}). The application's arguments follow, unless they are in the image.
    """

    type: str
    hypervisor: str
    entrypoint: tuple[str, ...]


@dataclass(frozen=True)
class KraftKit:
    """`platform` is what KraftKit calls the machine that an image is for."""

    platform: str


@dataclass(frozen=True)
class ProgramStart:
    """What a debugger learns from where a program is loaded: when one starts, the library OS calls `function`, and `stack` is an
    expression of gdb for the program's stack pointer there, to which the stack that System V's ABI describes is ready.
    """

    function: str
    stack: str


@dataclass(frozen=True)
class Debug:
    """`parameters` are further ones of the kernel's command line for an image that is debugged."""

    parameters: str = ""
    program_start: Optional[ProgramStart] = None


@dataclass(frozen=True)
class HypervisorSupport:
    """How a hypervisor boots the same file: `append` is what its command line has to have there, and `machine` QEMU's machine, for libvirt.

    `kernel_config` are options that the image's kernel needs there and does not have by itself, and `kernel_config_smp` are those for more
    than one CPU.
    """

    append: str = ""
    machine: str = ""
    kernel_config: tuple[str, ...] = ()
    kernel_config_smp: tuple[str, ...] = ()


@dataclass(frozen=True)
class LibraryOs:
    """`title`, `tried` and `published` are for people: what it is, what it was tried with, where its kernels are. `honours` are the
    fields of an image (as in a BUILD file) that it can do something with. `machines` are by name, the default first; where there are
    none, `elsewhere` says what boots the image. `rootfs_copies` is how often the root file system is in memory. `terminal` tells that its
    console is a terminal, where Ctrl-C is a signal to the application. `streams` are what it sends beside the console where a machine has
    virtio consoles: the stream's name -> what the command line says to have it sent to the console of its number, from 0. `hypervisors`
    are those that boot the same file, by name.
    """

    name: str
    title: str
    license: str
    architecture: str
    tried: str
    published: str
    inputs: Mapping[str, Input]
    takes: tuple[AppKind, ...]
    honours: tuple[str, ...]
    build: Union[Embed, Pack, Link]
    command_line: CommandLine
    minimum_memory: int
    rootfs_copies: int
    machines: Mapping[str, Machine]
    elsewhere: str
    kvm_probe: Optional[KvmProbe]
    exit: Exit
    limits: Limits
    terminal: bool = False
    streams: Mapping[str, str] = field(default_factory=dict)
    urunc: Optional[Urunc] = None
    kraftkit: Optional[KraftKit] = None
    debug: Debug = Debug()
    hypervisors: Mapping[str, HypervisorSupport] = field(default_factory=dict)
