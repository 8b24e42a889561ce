"""Writes arguments, environment and network down as a library OS reads them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Callable
from urllib.parse import quote

from unikernel.errors import UnikernelError
from unikernel.library_os.description import CommandLine, LibraryOs, Quoting

if TYPE_CHECKING:
    # Pants' rules import this, and have no protobuf.
    from unikernel.image.manifest_pb2 import Network

# What the texts for networks can name; `address` has the length of its prefix.
NETWORK_PLACEHOLDERS = ("address", "gateway", "hostname", "ip", "nameserver", "netmask")


def render_command_line(
    library_os: LibraryOs,
    program: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    network: Network | None = None,
    parameters: Sequence[str] = (),
) -> str:
    """`network` is an image's, and `parameters` are the library OS's own.

    Raises UnikernelError for what the library OS has no way to be given.
    """
    check_words(library_os, arguments, environment)
    syntax = library_os.command_line
    for words, name in ((arguments, "arguments"), (environment, "environment")):
        if words and f"{{{name}}}" not in syntax.form:
            raise UnikernelError(f"{library_os.name} has no place for {name} at boot: an image has its own in it.")
    variables = [syntax.variable.format(name=name, value=value) for name, value in environment.items()]
    place = {
        "program": program,
        "arguments": _words(library_os, arguments, syntax.arguments) or syntax.no_arguments,
        "environment": _words(library_os, variables, syntax.environment),
        "network": syntax.network.get(network.mode, "").format(**_network(network)) if network is not None else "",
        "parameters": " ".join(parameters),
    }
    return syntax.form.format(**place).strip()


def _network(network: Network) -> dict[str, str]:
    ip, _, prefix = network.address.partition("/")
    netmask = str(ipaddress.IPv4Network(f"0.0.0.0/{prefix}").netmask) if prefix else ""
    words = (network.address, network.gateway, network.hostname, ip, next(iter(network.nameservers), ""), netmask)
    return dict(zip(NETWORK_PLACEHOLDERS, words))


def check_words(library_os: LibraryOs, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises UnikernelError for what the library OS has no way to give its application, wherever it is written down."""
    syntax = library_os.command_line
    if environment and not syntax.environment:
        raise UnikernelError(
            f"{library_os.name} gives its application no environment: {', '.join(sorted(environment))} cannot be set."
        )
    if "" in arguments and not syntax.empty_words:
        raise UnikernelError(f"{library_os.name} cannot give its application an empty argument.")
    for name, value in environment.items():
        for character in syntax.not_in_variables:
            if character in name + value:
                raise UnikernelError(
                    f"{library_os.name} cannot give its application {name}={value}: there is a {character!r} in it."
                )


def quoted_words(library_os: LibraryOs, words: Sequence[str]) -> list[str]:
    """Each as the library OS reads it. Raises UnikernelError for one that it has no way to be given."""
    return [_quoted(library_os.name, library_os.command_line, word) for word in words]


def _words(library_os: LibraryOs, words: Sequence[str], around: str) -> str:
    if not words:
        return ""
    syntax = library_os.command_line
    written = syntax.separator.join(syntax.word.format(word=word) for word in quoted_words(library_os, words))
    return around.format(words=written)


def _quoted(name: str, syntax: CommandLine, word: str) -> str:
    try:
        return _QUOTING[syntax.quoting](word)
    except ValueError as error:
        raise UnikernelError(f"{name} cannot be given {word!r} on its command line: {error}.") from error


def _plain(word: str) -> str:
    if not word or word.split() != [word]:
        raise ValueError("it knows no quotes, so a word cannot be empty or have spaces in it")
    return word


def _double_quotes(word: str) -> str:
    if "\n" in word:
        raise ValueError("a word in quotes cannot have ends of lines in it")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_QUOTING: dict[Quoting, Callable[[str], str]] = {
    Quoting.NONE: _plain,
    # QEMU's options: qemu(1), "a comma is doubled".
    Quoting.DOUBLED_COMMAS: lambda word: _plain(word).replace(",", ",,"),
    Quoting.DOUBLE_QUOTES: _double_quotes,
    # Our PID 1 knows an empty word as %00, which no argument can be.
    Quoting.PERCENT: lambda word: quote(word, safe="") or "%00",
}
