from __future__ import annotations

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.manifest_pb2 import Network
from unikernel.library_os import find_library_os
from unikernel.library_os.command_line import check_words, render_command_line

_LINUX, _PICOLIBC = find_library_os("linux"), find_library_os("picolibc")
_UNIKRAFT, _NANOS = find_library_os("unikraft"), find_library_os("nanos")
_STATIC = Network(mode="static", address="10.0.2.15/20", gateway="10.0.2.2", hostname="web")
_FSTAB = 'unikraft vfs.fstab=[ "initrd0:/:extract::ramfs=1:" ]'


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


def test_unikraft() -> None:
    written = render_command_line(_UNIKRAFT, "/hello", ["7", "two words", 'a\\"b'], {"A": "1", "B": "x y"}, _STATIC, ["lib.x=1"])
    assert written == (
        f'{_FSTAB} netdev.ip=10.0.2.15/20:10.0.2.2:::web: env.vars=[ "A=1" "B=x y" ] lib.x=1 ' r'-- /hello "7" "two words" "a\\\"b"'
    )
    assert render_command_line(_UNIKRAFT, "/hello", [], {}, Network(mode="dhcp")).split() == [*_FSTAB.split(), "--", "/hello"]


@pytest.mark.parametrize(
    ("name", "network", "written"),
    [
        (
            "osv",
            _STATIC,
            "--rootfs=rofs --power-off-on-abort --ip=eth0,10.0.2.15,255.255.240.0 --defaultgw=10.0.2.2 --nameserver= "
            '"--env=A=1"  /hello "7" "b"',
        ),
        ("osv", Network(mode="dhcp"), '--rootfs=rofs --power-off-on-abort  "--env=A=1"  /hello "7" "b"'),
        (
            "rumprun",
            _STATIC,
            '{"net": {"if": "vioif0",, "type": "inet",, "method": "static",, "addr": "10.0.2.15/20",, "gw": "10.0.2.2"},, '
            '"env":"A=1",, "cmdline": "/hello 7 b"}',
        ),
        ("rumprun", Network(mode="none"), '{"env":"A=1",, "cmdline": "/hello 7 b"}'),
    ],
)
def test_others_by_their_published_protocols(name: str, network: Network, written: str) -> None:
    assert render_command_line(find_library_os(name), "/hello", ["7", "b"], {"A": "1"}, network) == written


@pytest.mark.parametrize(("name", "written"), [("hermit", '-- "7" "b"'), ("includeos", "7 b"), ("mirage", "7 b"), ("halvm", "7 b")])
def test_others_that_have_no_environment(name: str, written: str) -> None:
    assert render_command_line(find_library_os(name), "/hello", ["7", "b"], {}, _STATIC) == written
    with pytest.raises(UnikernelError, match=f"{name} gives its application no environment"):
        render_command_line(find_library_os(name), "/hello", [], {"A": "1"})


def test_what_unikraft_would_lose() -> None:
    with pytest.raises(UnikernelError, match="unikraft cannot give its application an empty argument"):
        render_command_line(_UNIKRAFT, "/hello", ["a", ""], {})
    with pytest.raises(UnikernelError, match=r"unikraft cannot give its application A=\[1\]: there is a '\]' in it"):
        render_command_line(_UNIKRAFT, "/hello", ["[1]"], {"A": "[1]"})


def test_what_is_in_an_image_cannot_be_given_at_boot() -> None:
    assert render_command_line(_NANOS, "/hello", [], {}) == ""
    check_words(_NANOS, ["7", "two words"], {"A": "1"})
    with pytest.raises(UnikernelError, match="nanos has no place for arguments at boot: an image has its own in it"):
        render_command_line(_NANOS, "/hello", ["7"], {})
    with pytest.raises(UnikernelError, match="nanos cannot give its application an empty argument"):
        check_words(_NANOS, [""], {})


def test_semihosting() -> None:
    assert render_command_line(_PICOLIBC, "app", ["7", "a,b"], {}) == ",arg=7,arg=a,,b"
    assert render_command_line(_PICOLIBC, "app", [], {}) == ",arg="


@pytest.mark.parametrize("word", ["two words", "", "tab\t", "line\n"])
def test_words_that_a_plain_command_line_cannot_have(word: str) -> None:
    with pytest.raises(UnikernelError, match="picolibc cannot be given .* on its command line: it knows no quotes"):
        render_command_line(_PICOLIBC, "app", [word], {})


def test_words_that_quotes_cannot_hold() -> None:
    with pytest.raises(UnikernelError, match="unikraft cannot be given"):
        render_command_line(_UNIKRAFT, "app", ["line\nbreak"], {})


def test_an_environment_where_there_is_none() -> None:
    with pytest.raises(UnikernelError, match="picolibc gives its application no environment: A, B cannot be set"):
        render_command_line(_PICOLIBC, "app", [], {"B": "1", "A": "2"})
