"""Reads descriptions of library OSes: YAML, validated, with file and line in every error."""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Mapping, Sequence
from typing import Any

from strictyaml import (
    Bool,
    EmptyDict,
    Enum,
    Int,
    Map,
    MapPattern,
    Optional,
    Regex,
    ScalarValidator,
    Seq,
    Str,
    YAMLError,
    load,
)

from unikernel.errors import UnikernelError
from unikernel.image.spec import NETWORK_MODES, parse_size
from unikernel.library_os.command_line import NETWORK_PLACEHOLDERS
from unikernel.library_os.description import (
    CONFIGURABLE,
    HYPERVISORS,
    STREAMS,
    AppKind,
    CommandLine,
    Debug,
    Embed,
    Exit,
    ExitReport,
    Generate,
    HypervisorSupport,
    Input,
    InputKind,
    KraftKit,
    KvmProbe,
    LibraryOs,
    Limits,
    Link,
    Machine,
    Pack,
    ProgramStart,
    Quoting,
    RootfsForm,
    Urunc,
)

NAME = "[a-z][a-z0-9-]*"
ARCHITECTURES = ("aarch64", "riscv64", "x86_64")


class _Words(ScalarValidator):  # type: ignore[misc]
    """Words as a shell splits them; nothing is expanded."""

    def validate_scalar(self, chunk: Any) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(chunk.contents))
        except ValueError:
            chunk.expecting_but_found("when expecting words", "a quotation without an end")
            raise


class _Size(ScalarValidator):  # type: ignore[misc]
    """An amount of memory, such as 16M."""

    def validate_scalar(self, chunk: Any) -> int:
        try:
            return parse_size(chunk.contents)
        except ValueError:
            chunk.expecting_but_found("when expecting an amount of memory, such as 16M")
            raise


class _Expression(ScalarValidator):  # type: ignore[misc]
    """A regular expression."""

    def validate_scalar(self, chunk: Any) -> str:
        try:
            return re.compile(chunk.contents).pattern
        except re.error:
            chunk.expecting_but_found("when expecting a regular expression")
            raise


def _one_of(enum: Any) -> Enum:
    return Enum([member.value for member in enum])


_INPUT = Map({"what": Str(), "kind": _one_of(InputKind), Optional("default"): Str(), Optional("machine"): Str()})
_EMBED = Map({"kit": Enum(["linux"])})
_PACK = Map(
    {
        "rootfs": _one_of(RootfsForm),
        Optional("command"): _Words(),
        Optional("standard_input"): Str(),
        Optional("kernel"): Str(),
        Optional("suffix"): Regex("[a-z0-9]+"),
        Optional("deterministic"): Bool(),
    }
)
_GENERATE = Map({"document": Str(), "text": Str(), "command": _Words(), "source": Regex(r".*\.c"), Optional("network"): Str()})
_LINK = Map(
    {
        "compiler": Str(),
        "objcopy": Str(),
        "compile_flags": _Words(),
        "link_flags": _Words(),
        Optional("generate"): _GENERATE,
        Optional("version"): _Words(),
    }
)
_COMMAND_LINE = Map(
    {
        "form": Str(),
        "quoting": _one_of(Quoting),
        "in_image": Bool(),
        **{Optional(name): Str() for name in ("arguments", "no_arguments", "environment", "word", "variable", "separator")},
        Optional("network"): Map({Optional(mode): Str() for mode in NETWORK_MODES}),
        Optional("longest"): Int(),
        Optional("empty_words"): Bool(),
        Optional("not_in_variables"): Str(),
    }
)
_MACHINE = Map(
    {
        "program": Str(),
        "arguments": _Words(),
        Optional("machine"): Str(),
        Optional("cpu"): Map({Optional("kvm"): Str(), "tcg": Str()}),
        Optional("network_device"): Str(),
        Optional("stream_controller"): Str(),
    }
)
_HYPERVISOR = Map(
    {
        Optional("append"): Str(),
        Optional("machine"): Str(),
        Optional("kernel_config"): _Words(),
        Optional("kernel_config_smp"): _Words(),
    }
)
_SCHEMA = Map(
    {
        "name": Regex(NAME),
        "title": Str(),
        "license": Str(),
        "architecture": Enum(list(ARCHITECTURES)),
        "tried": Str(),
        "published": Str(),
        Optional("inputs"): MapPattern(Regex("[a-z][a-z0-9_]*"), _INPUT),
        "takes": Seq(_one_of(AppKind)),
        Optional("honours"): Seq(Enum(list(CONFIGURABLE))),
        Optional("embed"): _EMBED,
        Optional("pack"): _PACK,
        Optional("link"): _LINK,
        "command_line": _COMMAND_LINE,
        "boot": Map(
            {
                "memory": _Size(),
                Optional("rootfs_copies"): Int(),
                Optional("machines"): MapPattern(Regex(NAME), _MACHINE),
                Optional("elsewhere"): Str(),
                Optional("terminal"): Bool(),
                Optional("streams"): Map({Optional(name): Str() for name in STREAMS}),
                Optional("kvm_probe"): Map({"append": Str(), "sign": Str()}),
            }
        ),
        "exit": Map(
            {
                "report": _one_of(ExitReport),
                Optional("port"): Int(),
                Optional("success"): Seq(Int()),
                Optional("status"): _Expression(),
                Optional("failure"): _Expression(),
            }
        ),
        Optional("hypervisors"): Map({Optional(name): EmptyDict() | _HYPERVISOR for name in HYPERVISORS}),
        Optional("urunc"): Map({"type": Regex(NAME), "hypervisor": Regex(NAME), "entrypoint": _Words()}),
        Optional("kraftkit"): Map({"platform": Regex(NAME)}),
        Optional("debug"): Map(
            {
                Optional("parameters"): Str(),
                Optional("program_start"): Map({"function": Regex("[A-Za-z_][A-Za-z0-9_]*"), "stack": Str()}),
            }
        ),
        Optional("limits"): Map({Optional(name): Bool() for name in Limits.__dataclass_fields__}),
    }
)


def read_library_os(content: str, label: str) -> LibraryOs:
    """`label` is where `content` is from. Raises UnikernelError with it, the line, and what is allowed there."""
    try:
        # A line is not JSON: flow style and duplicate keys are errors of strictyaml's own.
        document: dict[str, Any] = load(content, _SCHEMA, label=label).data
    except AttributeError as error:
        # strictyaml expects a mark of each of its parser's errors; the one about such a character has none.
        raise UnikernelError(f"{label}: it has a character that YAML does not allow.") from error
    except YAMLError as error:
        raise UnikernelError(f"{label}{_line(error)}: {_problem(error)}.") from error
    return _library_os(document, label)


def _line(error: YAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f":{mark.line + 1}" if mark is not None else ""


def _problem(error: YAMLError) -> str:
    parts = (part.strip().rstrip(".") for part in (error.context, error.problem) if part)
    return ", ".join(" ".join(part.split()) for part in parts)


def _library_os(document: Mapping[str, Any], label: str) -> LibraryOs:
    methods = [name for name in ("embed", "pack", "link") if name in document]
    if len(methods) != 1:
        raise UnikernelError(
            f"{label}: it says {' and '.join(methods) or 'nothing'}; one of embed, pack and link is how images are made."
        )
    inputs = {name: Input(**{**values, "kind": InputKind(values["kind"])}) for name, values in document.get("inputs", {}).items()}
    boot = document["boot"]
    exit: dict[str, Any] = {**document["exit"], "report": ExitReport(document["exit"]["report"])}
    exit["success"] = tuple(exit.get("success", ()))
    command_line: dict[str, Any] = {**document["command_line"], "quoting": Quoting(document["command_line"]["quoting"])}
    library_os = LibraryOs(
        **{key: document[key] for key in ("name", "title", "license", "architecture", "tried", "published")},
        inputs=inputs,
        takes=tuple(AppKind(kind) for kind in document["takes"]),
        honours=tuple(document.get("honours", ())),
        build=_build(methods[0], document[methods[0]]),
        command_line=CommandLine(**command_line),
        minimum_memory=boot["memory"],
        rootfs_copies=boot.get("rootfs_copies", 1),
        machines={name: Machine(**values) for name, values in boot.get("machines", {}).items()},
        elsewhere=boot.get("elsewhere", ""),
        kvm_probe=KvmProbe(**boot["kvm_probe"]) if "kvm_probe" in boot else None,
        terminal=boot.get("terminal", False),
        streams=boot.get("streams", {}),
        exit=Exit(**exit),
        limits=Limits(**document.get("limits", {})),
        urunc=Urunc(**document["urunc"]) if "urunc" in document else None,
        kraftkit=KraftKit(**document["kraftkit"]) if "kraftkit" in document else None,
        debug=_debug(document.get("debug", {})),
        hypervisors={name: HypervisorSupport(**values) for name, values in document.get("hypervisors", {}).items()},
    )
    _check(library_os, label)
    return library_os


def _debug(values: Mapping[str, Any]) -> Debug:
    start = values.get("program_start")
    return Debug(values.get("parameters", ""), ProgramStart(**start) if start else None)


def _build(method: str, values: Mapping[str, Any]) -> Embed | Pack | Link:
    if method == "embed":
        return Embed(**values)
    if method == "link":
        linking: dict[str, Any] = {**values, "generate": Generate(**values["generate"]) if "generate" in values else None}
        return Link(**linking)
    packing: dict[str, Any] = {**values, "rootfs": RootfsForm(values["rootfs"])}
    return Pack(**packing)


def _check(library_os: LibraryOs, label: str) -> None:
    """What refers to each other fits together."""

    def known(words: Sequence[str], names: Sequence[str], where: str) -> None:
        for word in words:
            try:
                unknown = [name for name in placeholders(word) if name not in names]
            except ValueError as error:
                raise UnikernelError(f"{label}: {where} has braces that do not match: {word!r} ({error}).") from error
            if unknown:
                raise UnikernelError(f"{label}: {where} has {{{unknown[0]}}}; there are {', '.join(sorted(names))}.")

    build, inputs = library_os.build, tuple(library_os.inputs)

    def an_input(name: str, where: str, *kinds: InputKind) -> None:
        item = library_os.inputs.get(name)
        if item is None:
            raise UnikernelError(f"{label}: {where} is {name!r}, which is none of inputs: {', '.join(inputs) or 'there are none'}.")
        if item.kind not in kinds:
            raise UnikernelError(f"{label}: {where} is {name!r}, an input that is no {' or '.join(kind.value for kind in kinds)}.")

    for name, item in library_os.inputs.items():
        if item.default and item.kind is not InputKind.PROGRAM:
            raise UnikernelError(f"{label}: inputs.{name} has a default, which is for programs only: they are looked for on PATH.")
    if isinstance(build, Link):
        an_input(build.compiler, "link.compiler", InputKind.PROGRAM)
        an_input(build.objcopy, "link.objcopy", InputKind.PROGRAM)
        known((*build.compile_flags, *build.link_flags), inputs, "link.compile_flags or .link_flags")
        known(build.version, inputs, "link.version")
        if build.generate is not None:
            known([build.generate.text], ("network",), "link.generate.text")
            known(build.generate.command, (*inputs, "document", "source"), "link.generate.command")
        if library_os.takes != (AppKind.SOURCES,):
            raise UnikernelError(f"{label}: takes is for link only: - sources.")
    elif AppKind.SOURCES in library_os.takes:
        raise UnikernelError(f"{label}: takes has sources, and nothing links them: there is no link.")
    if isinstance(build, Pack):
        known(build.command, (*inputs, "rootfs", "packed"), "pack.command")
        if build.standard_input not in ("", "rootfs"):
            an_input(build.standard_input, "pack.standard_input", *InputKind)
        if build.kernel:
            an_input(build.kernel, "pack.kernel", InputKind.ELF)
        if not build.command and not build.kernel and build.rootfs is not RootfsForm.PROGRAM:
            raise UnikernelError(
                f"{label}: pack has neither a command nor a kernel: nothing makes an image of the root file system."
            )
    syntax = library_os.command_line
    known([syntax.form], ("program", "arguments", "environment", "network", "parameters"), "command_line.form")
    known([syntax.arguments, syntax.environment], ("words",), "command_line.arguments or .environment")
    known([syntax.word], ("word",), "command_line.word")
    known([syntax.variable], ("name", "value"), "command_line.variable")
    known(list(syntax.network.values()), NETWORK_PLACEHOLDERS, "command_line.network")
    if library_os.urunc is not None:
        known(library_os.urunc.entrypoint, ("name", "program"), "urunc.entrypoint")
    if library_os.kraftkit is not None and not (isinstance(build, Pack) and build.kernel and build.rootfs is RootfsForm.CPIO):
        raise UnikernelError(f"{label}: kraftkit is for what packs a cpio archive beside a kernel.")
    if bool(library_os.machines) == bool(library_os.elsewhere):
        raise UnikernelError(f"{label}: boot has either machines or elsewhere, which says what boots images in their place.")
    if library_os.hypervisors and isinstance(build, Pack) and build.kernel:
        raise UnikernelError(
            f"{label}: hypervisors is for images that boot as they are, and these have a root file system beside a kernel."
        )
    for name, support in library_os.hypervisors.items():
        if (name == "libvirt") != bool(support.machine):
            raise UnikernelError(f"{label}: hypervisors.libvirt has a machine, one of QEMU's, and the others have none.")
    for name, machine in library_os.machines.items():
        known(machine.arguments, ("image", "rootfs", "command_line", "memory"), f"boot.machines.{name}.arguments")
        if machine.stream_controller and not library_os.streams:
            raise UnikernelError(
                f"{label}: boot.machines.{name}.stream_controller is there, and there are no boot.streams to send."
            )
        of_qemu = machine.network_device or machine.stream_controller
        if bool(machine.machine) != bool(machine.cpu) or (of_qemu and not machine.machine):
            raise UnikernelError(
                f"{label}: boot.machines.{name} is QEMU's with both machine and cpu, and none of its with neither."
            )
    for key, report in (("port", ExitReport.IO_PORT), ("status", ExitReport.CONSOLE)):
        if (library_os.exit.report is report) != bool(getattr(library_os.exit, key)):
            raise UnikernelError(f"{label}: exit.{key} is there if, and only if, exit.report is {report.value}.")
    if library_os.exit.success and library_os.exit.report is not ExitReport.MONITOR:
        raise UnikernelError(f"{label}: exit.success is for exit.report monitor only.")
    if library_os.exit.status and re.compile(library_os.exit.status).groups != 1:
        raise UnikernelError(f"{label}: exit.status has one group, which is the status: {library_os.exit.status}.")


def placeholders(text: str) -> list[str]:
    """The names in braces. Raises ValueError for braces that do not match."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
