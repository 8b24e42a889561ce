from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.spec import Port
from unikernel.image_test.expectations import Expectations, HttpProbe, TcpProbe
from unikernel.library_os import find_library_os

_LINUX, _UNIKRAFT, _NANOS = (find_library_os(name) for name in ("linux", "unikraft", "nanos"))
_PORTS = (Port(53, 53, "udp"), Port(8080, 80), Port(9090, 9090))


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    document = {
        "name": "src/a:b",
        "exit_status": 3,
        "console": ["^listening$"],
        "console_not": ["Traceback"],
        "http": [
            {"method": "POST", "path": "/a?b=c", "port": 80, "send": "x", "status": 404, "body": "a.c", "headers": {"Age": "^0$"}}
        ],
        "tcp": [{"send": "PING\r\n", "receive": "PONG"}],
        "timeout": 1.5,
        "memory": "96M",
        "args": ["--a", ""],
        "env": {"B": "1", "A": ""},
    }
    file = tmp_path / "expectations.json"
    file.write_text(json.dumps(document))
    expectations = Expectations.read(file)
    assert expectations.http == (HttpProbe("POST", "/a?b=c", 80, send="x", status=404, body="a.c", headers=(("Age", "^0$"),)),)
    assert expectations.tcp == (TcpProbe(send="PING\r\n", receive="PONG"),)
    assert expectations.env == (("A", ""), ("B", "1"))
    assert json.loads(expectations.to_json()) == document
    assert Expectations.parse(json.loads(expectations.to_json())) == expectations


def test_equal_expectations_are_one_text() -> None:
    texts = [
        Expectations.parse(document).to_json()
        for document in ({"env": {"A": "1", "B": "2"}}, {"env": {"B": "2", "A": "1"}, "args": []})
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "document, message",
    [
        ([], "is no object"),
        ({"htpp": []}, "'htpp' is none of name, exit_status, console"),
        ({"exit_status": 256}, "exit_status: 256 is no exit status: they are 0 to 255"),
        ({"exit_status": True}, "exit_status: True is no exit status"),
        ({"console": "text"}, "console: 'text' is no list"),
        ({"console": ["("]}, r"console: '\(' is no regular expression: missing \), unterminated subpattern"),
        ({"console_not": [1]}, "console_not: 1 is no text"),
        ({"http": {}}, "http: {} is no list"),
        ({"http": [{"url": "/"}]}, "http: 'url' is none of method, path, port"),
        ({"http": [{"path": "a"}]}, "http: the path 'a' does not start with a slash"),
        ({"http": [{"path": "/a b"}]}, "has something that a URL has to encode"),
        ({"http": [{"method": "GET /"}]}, "http: 'GET /' is no method"),
        ({"http": [{"status": 99}]}, "http: 99 is no status of HTTP"),
        ({"http": [{"status": "200"}]}, "http: status: '200' is not a number"),
        ({"http": [{"port": 0}]}, "http: port: 0 is no port"),
        ({"http": [{"body": "["}]}, "http: body: '.' is no regular expression"),
        ({"http": [{"headers": ["Age"]}]}, "http: headers: .* is no object of texts by name"),
        ({"http": [{"headers": {"Age": "*"}}]}, "http: headers: '.' is no regular expression"),
        ({"http": [{"headers": {"A b": ""}}]}, "http: headers: 'A b' is no header"),
        ({"http": [{"send_headers": {"A": "b\r\nC: d"}}]}, "http: send_headers: 'A' is no header"),
        ({"tcp": [{"expect": ""}]}, "tcp: 'expect' is none of port, send, receive"),
        ({"tcp": [{"receive": "("}]}, "tcp: receive: .* is no regular expression"),
        ({"timeout": 0}, "timeout: 0 is no number of seconds"),
        ({"timeout": True}, "timeout: True is no number of seconds"),
        ({"memory": "lots"}, "memory: 'lots' is no amount of memory"),
        ({"env": {"A": 1}}, "env: .* is no object of texts by name"),
        ({"args": "a"}, "args: 'a' is no list"),
    ],
)
def test_what_is_no_expectation_is_named(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Expectations.parse(document)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "expectations.json"
    with pytest.raises(UnikernelError, match="expectations.json cannot be read: No such file"):
        Expectations.read(file)
    file.write_text("{")
    with pytest.raises(UnikernelError, match="expectations.json does not say what is expected of an image: Expecting"):
        Expectations.read(file)


def test_what_is_left_open_is_as_the_image_has_it() -> None:
    expectations = Expectations.parse({"http": [{}, {"port": 9090}], "tcp": [{}]}).for_image(_LINUX, _PORTS)
    assert [probe.port for probe in expectations.http] == [8080, 9090]
    assert [probe.port for probe in expectations.tcp] == [8080]
    # A service runs on.
    assert expectations.exit_status is None


@pytest.mark.parametrize("document", [{}, {"console_not": ["a"]}, {"args": ["a"]}])
def test_an_image_that_is_asked_for_nothing_else_ends_well(document: Any) -> None:
    assert Expectations.parse(document).for_image(_LINUX, ()).exit_status == 0
    assert Expectations.parse({**document, "console": ["a"]}).for_image(_LINUX, ()).exit_status is None


@pytest.mark.parametrize(
    "document, library_os, message",
    [
        ({"http": [{"port": 53}]}, _LINUX, "^http: 53 is none of the image's TCP ports: 8080, 9090"),
        ({"tcp": [{"port": 22}]}, _LINUX, "^tcp: 22 is none of the image's TCP ports"),
        ({"memory": "8M"}, _LINUX, "^memory: it is 8M, and linux needs 16M at least"),
        ({"exit_status": 0}, _UNIKRAFT, "^exit_status: unikraft has no way to say how its application ended"),
        ({"console_not": ["a"]}, _UNIKRAFT, "^console: nothing is expected, and unikraft has no way to say"),
        ({"env": {"A": "]"}}, _UNIKRAFT, "^env: unikraft cannot give its application A=]"),
        ({"args": ["a"]}, _NANOS, "^args: nanos has no place for arguments at boot"),
        ({}, find_library_os("halvm"), "^image: images of halvm are booted elsewhere"),
    ],
)
def test_what_an_image_cannot_be_asked_is_named(document: Any, library_os: Any, message: str) -> None:
    if not document.get("http") and "args" in document:
        document = {**document, "console": ["a"]}
    if "env" in document:
        document = {**document, "console": ["a"]}
    with pytest.raises(ValueError, match=message):
        Expectations.parse(document).for_image(library_os, _PORTS)


def test_probes_need_ports_and_a_network() -> None:
    expectations = Expectations.parse({"http": [{}]})
    with pytest.raises(ValueError, match="^http: the image listens on no TCP port; name those that it does in its `ports`"):
        expectations.for_image(_LINUX, ())
    with pytest.raises(ValueError, match="^http: the image has no network"):
        expectations.for_image(_LINUX, _PORTS, has_network=False)
    # Nobody knows yet.
    assert expectations.for_image(_LINUX, None) == expectations
