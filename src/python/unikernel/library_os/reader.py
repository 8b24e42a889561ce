"""Reads descriptions of library OSes: YAML, validated, with file and line in every error."""

from __future__ import annotations

import shlex
import string
from collections.abc import Mapping, Sequence
from typing import Any

from strictyaml import (
    Bool,
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
from unikernel.library_os.description import (
    AppKind,
    CommandLine,
    Embed,
    Exit,
    ExitReport,
    Input,
    InputKind,
    KvmProbe,
    LibraryOs,
    Limits,
    Link,
    Pack,
    QemuMachine,
    Quoting,
    RootfsForm,
)

NAME = "[a-z][a-z0-9-]*"


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


def _one_of(enum: Any) -> Enum:
    return Enum([member.value for member in enum])


_INPUT = Map({"what": Str(), "kind": _one_of(InputKind), Optional("default"): Str()})
_EMBED = Map({"kit": Enum(["linux"])})
_PACK = Map(
    {
        "rootfs": _one_of(RootfsForm),
        Optional("command"): _Words(),
        Optional("standard_input"): Str(),
        Optional("deterministic"): Bool(),
    }
)
_LINK = Map({"compiler": Str(), "objcopy": Str(), "compile_flags": _Words(), "link_flags": _Words()})
_COMMAND_LINE = Map(
    {
        "form": Str(),
        "quoting": _one_of(Quoting),
        "in_image": Bool(),
        **{Optional(name): Str() for name in ("arguments", "no_arguments", "environment", "word", "variable", "separator")},
        Optional("network"): Map({Optional(mode): Str() for mode in NETWORK_MODES}),
        Optional("longest"): Int(),
    }
)
_MACHINE = Map(
    {
        "program": Str(),
        "machine": Str(),
        "cpu": Map({Optional("kvm"): Str(), "tcg": Str()}),
        "arguments": _Words(),
        Optional("network_device"): Str(),
    }
)
_SCHEMA = Map(
    {
        "name": Regex(NAME),
        "title": Str(),
        "license": Str(),
        "architecture": Enum(["aarch64", "riscv64", "x86_64"]),
        "tried": Str(),
        "published": Str(),
        Optional("inputs"): MapPattern(Regex("[a-z][a-z0-9_]*"), _INPUT),
        "takes": Seq(_one_of(AppKind)),
        Optional("embed"): _EMBED,
        Optional("pack"): _PACK,
        Optional("link"): _LINK,
        "command_line": _COMMAND_LINE,
        "boot": Map(
            {
                "memory": _Size(),
                "machines": MapPattern(Regex(NAME), _MACHINE),
                Optional("kvm_probe"): Map({"append": Str(), "sign": Str()}),
            }
        ),
        "exit": Map({"report": _one_of(ExitReport), Optional("port"): Int()}),
        Optional("limits"): Map({Optional(name): Bool() for name in Limits.__dataclass_fields__}),
    }
)


def read_library_os(content: str, label: str) -> LibraryOs:
    """`label` is where `content` is from. Raises UnikernelError with it, the line, and what is allowed there."""
    try:
        # A line is not JSON: flow style and duplicate keys are errors of strictyaml's own.
        document: dict[str, Any] = load(content, _SCHEMA, label=label).data
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
    command_line: dict[str, Any] = {**document["command_line"], "quoting": Quoting(document["command_line"]["quoting"])}
    library_os = LibraryOs(
        **{key: document[key] for key in ("name", "title", "license", "architecture", "tried", "published")},
        inputs=inputs,
        takes=tuple(AppKind(kind) for kind in document["takes"]),
        build=_build(methods[0], document[methods[0]]),
        command_line=CommandLine(**command_line),
        minimum_memory=boot["memory"],
        machines={name: QemuMachine(**values) for name, values in boot["machines"].items()},
        kvm_probe=KvmProbe(**boot["kvm_probe"]) if "kvm_probe" in boot else None,
        exit=Exit(ExitReport(document["exit"]["report"]), document["exit"].get("port", 0)),
        limits=Limits(**document.get("limits", {})),
    )
    _check(library_os, label)
    return library_os


def _build(method: str, values: Mapping[str, Any]) -> Embed | Pack | Link:
    if method == "embed":
        return Embed(**values)
    if method == "link":
        return Link(**values)
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
    if isinstance(build, Link):
        for role in ("compiler", "objcopy"):
            if getattr(build, role) not in inputs:
                raise UnikernelError(
                    f"{label}: link.{role} is {getattr(build, role)!r}, which is none of inputs: {', '.join(inputs)}."
                )
        known((*build.compile_flags, *build.link_flags), inputs, "link.compile_flags or .link_flags")
        if library_os.takes != (AppKind.SOURCES,):
            raise UnikernelError(f"{label}: takes is for link only: - sources.")
    elif AppKind.SOURCES in library_os.takes:
        raise UnikernelError(f"{label}: takes has sources, and nothing links them: there is no link.")
    if isinstance(build, Pack):
        known(build.command, (*inputs, "rootfs", "image"), "pack.command")
        known(["{" + build.standard_input + "}"] if build.standard_input else [], (*inputs, "rootfs"), "pack.standard_input")
    syntax = library_os.command_line
    known([syntax.form], ("program", "arguments", "environment", "network"), "command_line.form")
    known([syntax.arguments, syntax.environment], ("words",), "command_line.arguments or .environment")
    known([syntax.word], ("word",), "command_line.word")
    known([syntax.variable], ("name", "value"), "command_line.variable")
    known(list(syntax.network.values()), ("mode", "address", "prefix", "gateway", "nameserver"), "command_line.network")
    for name, machine in library_os.machines.items():
        known(machine.arguments, (*inputs, "image", "rootfs", "command_line"), f"boot.machines.{name}.arguments")
    if (library_os.exit.report is ExitReport.IO_PORT) != bool(library_os.exit.port):
        raise UnikernelError(f"{label}: exit.port is there if, and only if, exit.report is io-port.")


def placeholders(text: str) -> list[str]:
    """The names in braces. Raises ValueError for braces that do not match."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
