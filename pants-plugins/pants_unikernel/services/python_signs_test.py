from __future__ import annotations

import pytest

from pants_unikernel.services.python_signs import absolute_import, read_python, starts_server
from pants_unikernel.services.signs import PlacedSign, Strength, Verdict, verdict

_FLASK = "from flask import Flask\napp = Flask(__name__)\n"


def _strengths(source: str) -> list[tuple[str, str]]:
    return [(sign.strength.value, sign.what) for sign in read_python(source.encode()).signs]


def _verdict(source: str, *, has_server: bool = False) -> Verdict:
    placed = tuple(PlacedSign(sign, "main.py", is_entry=True) for sign in read_python(source.encode()).signs)
    return verdict(placed, has_server=has_server)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import uvicorn\nuvicorn.run('main:app')\n", "uvicorn.run"),
        ("from waitress import serve as start\nstart(app)\n", "waitress.serve"),
        ("import asyncio\nasync def main():\n    await asyncio.start_server(f, port=1)\n", "asyncio.start_server"),
        ("import asyncio\nasync def main(loop):\n    await loop.create_server(f)\n", "create_server()"),
        ("import socket\ns = socket.socket()\ns.listen()\n", "listen()"),
        ("import socket\ns.bind(a)\nwhile True:\n    s.recvfrom(9)\n", "bind() and recvfrom()"),
        ("from aiohttp import web\nweb.run_app(web.Application())\n", "aiohttp.web.run_app"),
        ("import grpc\nserver = grpc.server(pool)\n", "grpc.server"),
        ("from http.server import HTTPServer\nHTTPServer(a, H).serve_forever()\n", "serve_forever()"),
        ("import gunicorn.app.base\nclass A(gunicorn.app.base.BaseApplication):\n    pass\n", "gunicorn.app.base.BaseApplication"),
        ("import tornado.web\ntornado.web.Application([]).listen(1)\n", "listen()"),
        ("from bottle import *\nrun(port=1)\n", "bottle.run"),
        ("from twisted.internet import reactor\nreactor.listenTCP(1, f)\n", "listenTCP()"),
    ],
)
def test_code_that_starts_a_server(source: str, what: str) -> None:
    assert ("starts", what) in _strengths(source)
    assert _verdict(source).is_service


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (_FLASK, "flask.Flask"),
        ("import flask\nclass App(flask.Flask):\n    pass\n", "flask.Flask"),
        ("def create():\n    from fastapi import FastAPI\n    return FastAPI()\n", "fastapi.FastAPI"),
        (
            "from django.core.management import execute_from_command_line\nexecute_from_command_line([])\n",
            "django.core.management.execute_from_command_line",
        ),
        ("from http.server import HTTPServer\ndef run(server_class=HTTPServer):\n    pass\n", "http.server.HTTPServer"),
        ("import cherrypy\ncherrypy.tree.mount(a)\n", "cherrypy.tree"),
    ],
)
def test_code_that_declares_what_a_server_serves(source: str, what: str) -> None:
    assert ("declares", what) in _strengths(source)
    assert _verdict(source) == Verdict(True, f"main.py uses {what}")


@pytest.mark.parametrize(
    "source",
    [
        "import requests\nrequests.get('http://localhost')\n",
        "import socket, http.client\nsocket.create_connection(('a', 1))\n",
        "import aiohttp\naiohttp.ClientSession()\n",
        "import grpc\ngrpc.insecure_channel('a')\n",
        "import tornado.httpclient\n",
        "from flask import Blueprint, json\nroutes = Blueprint('a', __name__)\n",
        "from flask import Flask\ndef register(app: Flask) -> Flask:\n    assert isinstance(app, Flask)\n    other: Flask = app\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flask import Flask\n    Flask()\n",
        # A free port.
        "import socket\ns = socket.socket()\ns.bind(('', 0))\nport = s.getsockname()[1]\n",
        "'''uvicorn.run(app), from flask import Flask'''\n# serve_forever()\n",
        "from . import flask\nflask.Flask()\n",
        "from .flask import Flask\nFlask()\n",
        "connection.listen('channel')\nevents.listen(3)\n",
        "import subprocess\nsubprocess.run(['a'])\n",
    ],
)
def test_clients_types_and_words_make_no_service(source: str) -> None:
    assert _verdict(source) == Verdict(False, "none of its sources starts a server or declares a web application")


def test_a_tool_that_shares_an_application_is_a_service_only_if_it_starts_it() -> None:
    tool = "import argparse\n" + _FLASK
    assert not _verdict(tool).is_service
    assert "command-line tool" in _verdict(tool).reason
    # Started, in one of the ways, or with a server among the requirements.
    assert _verdict(tool + "app.run()\n").is_service
    assert _verdict(tool + "create().run(host='0.0.0.0')\n").is_service
    assert _verdict(tool, has_server=True).is_service
    # A login in a browser: one answer.
    assert not _verdict("import click\nfrom http.server import HTTPServer\nHTTPServer(a, H).handle_request()\n").is_service


def test_what_runs_in_the_main_module_only_is_told_apart() -> None:
    source = "import uvicorn\nif '__main__' == __name__:\n    uvicorn.run(1)\n    s.serve_forever()\nelse:\n    uvicorn.Server(1)\n"
    signs = read_python(source.encode()).signs
    assert {(sign.what, sign.only_as_main) for sign in signs} == {
        ("uvicorn.run", True),
        ("serve_forever()", True),
        ("uvicorn.Server", False),
    }


@pytest.mark.parametrize(
    "newer",
    ["match x:\n    case 1:\n        pass\n", "type A = int\n", "print 'Python 2'\n", "def f[T](x):\n    return f'{x!r}'\n"],
)
def test_a_source_for_another_python_is_read_by_its_words(newer: str) -> None:
    source = (
        f"{newer}from flask import (\n    Flask,  # the framework\n    json as j,\n)\nfrom .own import thing\nfrom . import other\n"
    )
    source += "import uvicorn, os.path as p\napp = Flask(__name__)\nuvicorn.run(app, port=1)  # Sanic()\nword = 'serve_forever()'\n"
    read = read_python(source.encode())
    assert [(sign.strength, sign.what) for sign in read.signs] == [
        (Strength.STARTS, "uvicorn.run"),
        (Strength.DECLARES, "flask.Flask"),
        (Strength.RUNS, "run()"),
    ]
    assert set(read.imports) >= {"flask", "uvicorn", "os.path", ".own", ".own.thing", ".other"}


def test_bytes_that_are_no_source_say_nothing() -> None:
    assert read_python(b"\xff\xfe\0 flask").signs == ()


@pytest.mark.parametrize(
    ("name", "module", "is_package", "absolute"),
    [
        ("a.b", "c.d", False, "a.b"),
        (".b", "a.c", False, "a.b"),
        (".b", "a.c", True, "a.c.b"),
        ("..b", "a.c.d", False, "a.b"),
        (".", "a.c", False, "a"),
    ],
)
def test_relative_imports(name: str, module: str, is_package: bool, absolute: str) -> None:
    assert absolute_import(name, module, is_package=is_package) == absolute


@pytest.mark.parametrize(
    ("program", "arguments", "serves"),
    [
        ("gunicorn", ["app:app"], True),
        ("gunicorn.app.wsgiapp", [], True),
        ("uvicorn.__main__", [], True),
        ("http.server", [], True),
        ("flask", ["--app", "a", "run"], True),
        ("flask", ["shell"], False),
        ("django-admin", ["migrate"], False),
        ("pytest", ["run"], False),
        ("celery", ["worker"], False),
    ],
)
def test_programs_of_distributions(program: str, arguments: list[str], serves: bool) -> None:
    assert starts_server(program, arguments) is serves
