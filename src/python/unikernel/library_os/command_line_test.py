from __future__ import annotations

from dataclasses import replace

import pytest

from unikernel.errors import UnikernelError
from unikernel.library_os import find_library_os
from unikernel.library_os.command_line import render_command_line
from unikernel.library_os.description import CommandLine, Quoting

_LINUX, _PICOLIBC = find_library_os("linux"), find_library_os("picolibc")
_LOADER = replace(
    _LINUX,
    name="loader",
    command_line=CommandLine(
        form="app {environment} {network} -- {program} {arguments}",
        quoting=Quoting.DOUBLE_QUOTES,
        in_image=False,
        environment="env.vars=[ {words} ]",
        network={"static": "netdev.ip={address}/{prefix}:{gateway}"},
    ),
)
_STATIC = {"mode": "static", "address": "10.0.2.15", "prefix": "24", "gateway": "10.0.2.2", "nameserver": ""}


@pytest.mark.parametrize(
    ("arguments", "environment", "written"),
    [
        ([], {}, ""),
        (["--port", "80"], {}, "UNIKERNEL_ARGS=--port,80"),
        (["a b", "", "c,d"], {"A": "1"}, "UNIKERNEL_ENV=A%3D1 UNIKERNEL_ARGS=a%20b,%00,c%2Cd"),
    ],
)
def test_linux(arguments: list[str], environment: dict[str, str], written: str) -> None:
    assert render_command_line(_LINUX, "/app", arguments, environment) == written


def test_a_loader_with_quotes() -> None:
    written = render_command_line(_LOADER, "/hello", ["7", "two words", "a=b"], {"A": "1", "B": "x y"}, _STATIC)
    assert written == 'app env.vars=[ A=1 "B=x y" ] netdev.ip=10.0.2.15/24:10.0.2.2 -- /hello 7 "two words" a=b'
    assert render_command_line(_LOADER, "/hello", [], {}, {"mode": "dhcp"}) == "app   -- /hello"


def test_semihosting() -> None:
    assert render_command_line(_PICOLIBC, "app", ["7", "a,b"], {}) == ",arg=7,arg=a,,b"
    assert render_command_line(_PICOLIBC, "app", [], {}) == ",arg="


@pytest.mark.parametrize("word", ["two words", "", "tab\t", "line\n"])
def test_words_that_a_plain_command_line_cannot_have(word: str) -> None:
    with pytest.raises(UnikernelError, match="picolibc cannot be given .* on its command line: it knows no quotes"):
        render_command_line(_PICOLIBC, "app", [word], {})


@pytest.mark.parametrize("word", ['quote"d', "line\nbreak"])
def test_words_that_quotes_cannot_hold(word: str) -> None:
    with pytest.raises(UnikernelError, match="loader cannot be given"):
        render_command_line(_LOADER, "app", [word], {})


def test_an_environment_where_there_is_none() -> None:
    with pytest.raises(UnikernelError, match="picolibc gives its application no environment: A, B cannot be set"):
        render_command_line(_PICOLIBC, "app", [], {"B": "1", "A": "2"})
