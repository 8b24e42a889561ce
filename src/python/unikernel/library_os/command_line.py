"""Writes arguments, environment and network down as a library OS reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Callable
from urllib.parse import quote

from unikernel.errors import UnikernelError
from unikernel.library_os.description import CommandLine, LibraryOs, Quoting

_PLAIN = re.compile(r"[A-Za-z0-9_@%+:,./=~^-]+")


def render_command_line(
    library_os: LibraryOs,
    program: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    network: Mapping[str, str] | None = None,
) -> str:
    """`network` has `mode` and what the description's text for that mode names (`address`, `prefix`, `gateway`, `nameserver`).

    Raises UnikernelError for what the library OS has no way to be given.
    """
    syntax = library_os.command_line
    if environment and not syntax.environment:
        raise UnikernelError(
            f"{library_os.name} gives its application no environment: {', '.join(sorted(environment))} cannot be set."
        )
    variables = [syntax.variable.format(name=name, value=value) for name, value in environment.items()]
    place = {
        "program": program,
        "arguments": _words(library_os, arguments, syntax.arguments) or syntax.no_arguments,
        "environment": _words(library_os, variables, syntax.environment),
        "network": syntax.network.get(network["mode"], "").format(**network) if network else "",
    }
    return syntax.form.format(**place).strip()


def _words(library_os: LibraryOs, words: Sequence[str], around: str) -> str:
    if not words:
        return ""
    syntax = library_os.command_line
    written = syntax.separator.join(syntax.word.format(word=_quoted(library_os.name, syntax, word)) for word in words)
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
    if '"' in word or "\n" in word:
        raise ValueError("a word in quotes cannot have quotes or ends of lines in it")
    return word if _PLAIN.fullmatch(word) else f'"{word}"'


_QUOTING: dict[Quoting, Callable[[str], str]] = {
    Quoting.NONE: _plain,
    # QEMU's options: qemu(1), "a comma is doubled".
    Quoting.DOUBLED_COMMAS: lambda word: _plain(word).replace(",", ",,"),
    Quoting.DOUBLE_QUOTES: _double_quotes,
    # Our PID 1 knows an empty word as %00, which no argument can be.
    Quoting.PERCENT: lambda word: quote(word, safe="") or "%00",
}
