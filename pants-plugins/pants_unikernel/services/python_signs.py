"""Signs of a service in Python sources, and in what a PEX starts."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union

from pants_unikernel.services.signs import Sign, Strength

# Names by their module. Using one (calling it, deriving from it, handing it on) starts a server.
# Clients of the same libraries (`aiohttp.ClientSession`, `grpc.insecure_channel`,
# `tornado.httpclient`) and `import` alone are not signs.
_STARTS: Mapping[str, Sequence[str]] = {
    "aiohttp.web": ("AppRunner", "TCPSite", "run_app"),
    "aiosmtpd.controller": ("Controller",),
    "asyncio": ("start_server",),
    "bjoern": ("run", "listen"),
    "bottle": ("run",),
    "cheroot.wsgi": ("Server",),
    "cherrypy": ("quickstart",),
    "cherrypy.engine": ("start",),
    "daphne.server": ("Server",),
    "eventlet": ("listen",),
    "eventlet.wsgi": ("server",),
    "gevent.pywsgi": ("WSGIServer",),
    "gevent.server": ("DatagramServer", "StreamServer"),
    "granian": ("Granian",),
    "grpc": ("server",),
    "grpc.aio": ("server",),
    "grpclib.server": ("Server",),
    "gunicorn.app.base": ("Application", "BaseApplication"),
    "gunicorn.app.wsgiapp": ("WSGIApplication", "run"),
    "hypercorn.asyncio": ("serve",),
    "hypercorn.run": ("run",),
    "hypercorn.trio": ("serve",),
    "nicegui.ui": ("run",),
    "paste.httpserver": ("serve",),
    "socket": ("create_server",),
    "tornado.httpserver": ("HTTPServer",),
    "tornado.tcpserver": ("TCPServer",),
    "trio": ("serve_tcp",),
    "twisted.web.server": ("Site",),
    "uvicorn": ("Config", "Server", "run"),
    "uvicorn.main": ("run",),
    "waitress": ("create_server", "serve"),
    "waitress.server": ("create_server",),
    "websockets": ("serve",),
    "websockets.asyncio.server": ("serve",),
    "websockets.server": ("serve",),
    "websockets.sync.server": ("serve",),
    "werkzeug.serving": ("run_simple",),
}
# Using one declares what a server serves. The standard library's servers are here too: a tool has
# one that answers once (`handle_request`), as for a login in a browser; `serve_forever` is what
# starts them.
_DECLARES: Mapping[str, Sequence[str]] = {
    "aiohttp.web": ("Application",),
    "apiflask": ("APIFlask",),
    "blacksheep": ("Application",),
    "bottle": ("Bottle", "default_app", "delete", "get", "post", "put", "route"),
    "cherrypy": ("Application", "expose", "tree"),
    "connexion": ("AioHttpApp", "App", "AsyncApp", "FlaskApp"),
    "dash": ("Dash",),
    "django.core.asgi": ("get_asgi_application",),
    "django.core.management": ("execute_from_command_line",),
    "django.core.wsgi": ("get_wsgi_application",),
    "emmett": ("App",),
    "falcon": ("API", "App"),
    "falcon.asgi": ("App",),
    "fastapi": ("FastAPI",),
    "fastapi.applications": ("FastAPI",),
    "flask": ("Flask",),
    "flask.app": ("Flask",),
    "gradio": ("Blocks", "ChatInterface", "Interface"),
    "http.server": ("HTTPServer", "ThreadingHTTPServer"),
    "hug": ("API",),
    "litestar": ("Litestar",),
    "morepath": ("App",),
    "muffin": ("Application",),
    "panel": ("serve",),
    "pyramid.config": ("Configurator",),
    "quart": ("Quart",),
    "responder": ("API",),
    "robyn": ("Robyn",),
    "sanic": ("Sanic",),
    "sanic.app": ("Sanic",),
    "socketserver": (
        *("ForkingTCPServer", "ForkingUDPServer", "TCPServer", "ThreadingTCPServer", "ThreadingUDPServer", "UDPServer"),
        *("ForkingMixIn", "ThreadingMixIn"),
    ),
    "spyne": ("Application",),
    "starlette.applications": ("Starlette",),
    "starlite": ("Starlite",),
    "tornado.web": ("Application",),
    "web": ("application",),
    "wsgiref.simple_server": ("WSGIServer", "make_server"),
    "xmlrpc.server": ("DocXMLRPCServer", "SimpleXMLRPCServer"),
}
# Methods that nothing but a server has, and those that count only in a module that imports one of
# these.
_METHODS: Mapping[str, Collection[str]] = {
    "add_insecure_port": (),
    "add_secure_port": (),
    "create_datagram_endpoint": ("asyncio", "uvloop"),
    "create_server": ("asyncio", "uvloop"),
    "listen": ("socket", "tornado"),
    "listenSSL": (),
    "listenTCP": (),
    "listenUDP": (),
    "serve_forever": (),
}
# A method of these names, with one of these arguments, starts what is declared:
# `app.run(host="0.0.0.0")`.
_RUNNING_METHODS = ("launch", "run", "run_server", "serve")
_RUNNING_ARGUMENTS = ("debug", "host", "port", "server_port", "ssl_context", "threaded", "use_reloader", "workers")
# Together they are a server of datagrams, whose socket does not listen.
_DATAGRAM_METHODS = ("bind", ("recvfrom", "recvfrom_into"))
_COMMAND_LINE_MODULES = ("argparse", "cleo", "click", "cyclopts", "docopt", "fire", "getopt", "optparse", "typer")

# Console scripts, and modules that start as programs, that serve; with the argument that has them
# do it, where they do other things too.
_SERVERS: Mapping[str, Collection[str]] = {
    "daphne": (),
    "django-admin": ("runserver", "testserver"),
    "fastapi": ("dev", "run"),
    "flask": ("run",),
    "granian": (),
    "gunicorn": (),
    "http.server": (),
    "hypercorn": (),
    "mitmdump": (),
    "panel": ("serve",),
    "pserve": (),
    "sanic": (),
    "streamlit": ("run",),
    "twist": (),
    "twistd": (),
    "uvicorn": (),
    "uwsgi": (),
    "waitress": (),
    "waitress-serve": (),
}
# Distributions (normalised names) that are there to serve: with one, a declared application is
# served, whatever else starts.
SERVER_DISTRIBUTIONS = frozenset(
    ("bjoern", "cheroot", "daphne", "granian", "gunicorn", "hypercorn", "meinheld", "pyuwsgi", "uvicorn", "uwsgi", "waitress")
)

_NAMES: Mapping[str, Strength] = {
    f"{module}.{name}": strength
    for strength, table in ((Strength.DECLARES, _DECLARES), (Strength.STARTS, _STARTS))
    for module, names in table.items()
    for name in names
}


def starts_server(program: str, arguments: Sequence[str]) -> bool:
    """Return whether a console script, or a third-party module that starts as a program, serves."""
    # `gunicorn.app.wsgiapp` and `uvicorn.__main__` are the programs' own modules.
    name = program if program in _SERVERS else program.partition(".")[0]
    if name not in _SERVERS:
        return False
    needed = _SERVERS[name]
    return not needed or any(argument in needed for argument in arguments)


@dataclass(frozen=True)
class PythonSource:
    """The signs in a source, strongest first, and the modules that it imports at run time.

    An import is a module, or a name of one, since only the modules that are there tell which: `from
    a import b` is "a.b". A relative one starts with its dots.
    """

    signs: tuple[Sign, ...]
    imports: tuple[str, ...]


def read_python(source: bytes) -> PythonSource:
    """Read one source.

    One that this Python cannot parse (it is written for a newer one, or for Python 2) is read word
    by word.
    """
    try:
        module = _read_tree(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        module = _read_tokens(source)
    order = list(Strength)
    signs = sorted(set(module.signs()), key=lambda sign: (order.index(sign.strength), sign.only_as_main, sign.what))
    return PythonSource(tuple(signs), tuple(sorted(module.imported)))


def absolute_import(name: str, module: str, *, is_package: bool) -> str:
    """Return the module that `name`, as `module` imports it, stands for."""
    relative = name.lstrip(".")
    level = len(name) - len(relative)
    if not level:
        return name
    parts = module.split(".")
    kept = parts[: len(parts) - level + is_package]
    return ".".join((*kept, relative) if relative else kept)


class _Module:
    """The names that one module has imported, and the methods that it calls."""

    def __init__(self) -> None:
        # Names in the source -> the modules, or names of modules, that they stand for.
        self.meanings: dict[str, str] = {}
        self.imported: set[str] = set()
        self.methods: dict[str, bool] = {}
        self.found: list[Sign] = []

    def add_import(self, name: str, alias: Optional[str]) -> None:
        self.imported.add(name)
        top = name.partition(".")[0]
        self.meanings[alias or top] = name if alias else top

    def add_import_from(self, module: str, name: str, alias: Optional[str]) -> None:
        is_bare = not module.strip(".")
        self.imported |= {module} if name == "*" else {f"{module}{name}"} if is_bare else {module, f"{module}.{name}"}
        if module.startswith("."):
            self.meanings.pop(alias or name, None)
        elif name == "*":
            self.meanings.update({full.rpartition(".")[2]: full for full in _NAMES if full.rpartition(".")[0] == module})
        else:
            self.meanings[alias or name] = f"{module}.{name}"

    def use(self, name: str, only_as_main: bool) -> None:
        """Note that the module uses `name`, which is written with the module that has it."""
        while name:
            strength = _NAMES.get(name)
            if strength is not None:
                self.found.append(Sign(strength, name, only_as_main))
                return
            # `cherrypy.tree.mount` uses `cherrypy.tree`.
            name = name.rpartition(".")[0]

    def call_method(self, name: str, arguments: Collection[str], only_as_main: bool) -> None:
        self.methods[name] = self.methods.get(name, True) and only_as_main
        if name in _RUNNING_METHODS and any(argument in _RUNNING_ARGUMENTS for argument in arguments):
            self.found.append(Sign(Strength.RUNS, f"{name}()", only_as_main))

    def signs(self) -> list[Sign]:
        """All signs, those that take a look at the whole module included."""
        tops = {name.partition(".")[0] for name in self.imported}
        for method, modules in _METHODS.items():
            if method in self.methods and (not modules or tops & set(modules)):
                self.found.append(Sign(Strength.STARTS, f"{method}()", self.methods[method]))
        bind, receivers = _DATAGRAM_METHODS
        received = next((name for name in receivers if name in self.methods), None)
        if "socket" in tops and bind in self.methods and received:
            self.found.append(Sign(Strength.STARTS, f"bind() and {received}()", self.methods[bind]))
        for module in sorted(tops & set(_COMMAND_LINE_MODULES)):
            self.found.append(Sign(Strength.COMMAND_LINE, module))
        return self.found


# --- parsed -------------------------------------------------------------------------------------------------------


def _read_tree(tree: ast.Module) -> _Module:
    module = _Module()
    _Imports(module).visit(tree)
    _Uses(module).visit(tree)
    return module


class _AtRunTime(ast.NodeVisitor):
    """Visits code that runs. Annotations and imports for type checkers do not."""

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
        if name == "TYPE_CHECKING":
            self.visit_all(node.orelse)
        else:
            self.generic_visit(node)

    def visit_all(self, nodes: Iterable[Optional[ast.AST]]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit_all((node.target, node.value))

    def visit_FunctionDef(self, node: Union[ast.FunctionDef, ast.AsyncFunctionDef]) -> None:
        self.visit_all((*node.decorator_list, node.args, *node.body))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)


class _Imports(_AtRunTime):
    def __init__(self, module: _Module) -> None:
        self.module = module

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.module.add_import(alias.name, alias.asname)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.module.add_import_from("." * node.level + (node.module or ""), alias.name, alias.asname)


class _Uses(_AtRunTime):
    def __init__(self, module: _Module) -> None:
        self.module = module
        self.only_as_main = False

    def visit_If(self, node: ast.If) -> None:
        if not _is_main_guard(node.test):
            super().visit_If(node)
            return
        self.only_as_main = True
        self.visit_all(node.body)
        self.only_as_main = False
        self.visit_all(node.orelse)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.module.use(self.module.meanings.get(node.id, ""), self.only_as_main)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._path(node)
        if name:
            self.module.use(name, self.only_as_main)
        else:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Name) and function.id in ("isinstance", "issubclass"):
            self.visit_all(node.args[:1])
            return
        if isinstance(function, ast.Attribute):
            names = [keyword.arg for keyword in node.keywords if keyword.arg]
            self.module.call_method(function.attr, names, self.only_as_main)
            if function.attr in _RUNNING_METHODS and self._is_declared(function.value):
                self.module.found.append(Sign(Strength.RUNS, f"{function.attr}()", self.only_as_main))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        # `app = Flask(__name__)`: `app.run()` starts it.
        if isinstance(node.value, ast.Call) and _NAMES.get(self._path(node.value.func)) is Strength.DECLARES:
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self.module.meanings[target.id] = _DECLARED
        self.generic_visit(node)

    def _is_declared(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and self.module.meanings.get(node.id) == _DECLARED

    def _path(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.module.meanings.get(node.id, "")
        if isinstance(node, ast.Attribute):
            owner = self._path(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""


# Stands for a declared application; it cannot be a module's name.
_DECLARED = "<declared>"


def _is_main_guard(test: ast.expr) -> bool:
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = (test.left, test.comparators[0])
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    words = [side.value for side in sides if isinstance(side, ast.Constant)]
    return names == ["__name__"] and words == ["__main__"]


# --- not parsed ---------------------------------------------------------------------------------------------------

_IMPORT = re.compile(r"^\s*import (?P<names>[\w., ]+)$", re.MULTILINE)
_IMPORT_FROM = re.compile(r"^\s*from (?P<module>[\w.]+) import (?P<names>[\w, *]+)$", re.MULTILINE)
_PATH = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?: ?\. ?\w+)*")
_METHOD = re.compile(r"\. ?(?P<name>\w+) ?\((?P<arguments>[^()]*)")
_KEYWORD = re.compile(r"(\w+) ?=(?! ?=)")


def _read_tokens(source: bytes) -> _Module:
    """Read words alone: what is between strings and comments, a logical line each."""
    text = "".join(_code(source))
    module = _Module()
    for match in _IMPORT.finditer(text):
        for name, alias in _aliases(match["names"]):
            module.add_import(name, alias)
    for match in _IMPORT_FROM.finditer(text):
        for name, alias in _aliases(match["names"]):
            module.add_import_from(match["module"], name, alias)
    code = _IMPORT_FROM.sub("", _IMPORT.sub("", text))
    for match in _PATH.finditer(code):
        first, _, rest = match[0].replace(" ", "").partition(".")
        meaning = module.meanings.get(first, "")
        module.use(f"{meaning}.{rest}" if rest else meaning, False)
    for match in _METHOD.finditer(code):
        module.call_method(match["name"], _KEYWORD.findall(match["arguments"]), False)
    return module


def _aliases(names: str) -> Iterator[tuple[str, str | None]]:
    for each in names.split(","):
        words = each.split()
        if words:
            yield words[0], words[2] if len(words) == 3 and words[1] == "as" else None


def _code(source: bytes) -> Iterator[str]:
    """Yield the logical lines of a source.

    Strings, comments and the parentheses of imports are left out.
    """
    line: list[str] = []
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type == tokenize.NEWLINE:
                yield _logical_line(line)
                line = []
            elif token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER):
                line.append(token.string)
    except (tokenize.TokenError, SyntaxError, ValueError):
        # What comes before is code all the same.
        return


def _logical_line(tokens: Sequence[str]) -> str:
    if tokens and tokens[0] in ("from", "import"):
        tokens = [token for token in tokens if token not in "()"]
    if tokens and tokens[0] == "from" and "import" in tokens:
        middle = tokens.index("import")
        return f"from {''.join(tokens[1:middle])} import {' '.join(tokens[middle + 1 :])}\n".replace(" ,", ",")
    return " ".join(tokens).replace(" . ", ".").replace(" ,", ",") + "\n"
