"""Signs of a service in C and C++ sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pants_unikernel.services.signs import Sign, Strength

# Functions of POSIX that open a port, each with the least number of its arguments: one with fewer
# is another function of that name. A socket of datagrams does not listen: it is bound, and then
# receives from anyone.
_LISTEN = ("listen", 2)
_BIND = ("bind", 3)
_RECEIVE = (("recvfrom", 6), ("recvmsg", 3), ("recvmmsg", 5))
# Those of libraries.
_LIBRARY_FUNCTIONS = (
    *("MHD_start_daemon", "cs_start", "evconnlistener_new", "evconnlistener_new_bind", "evhttp_bind_socket"),
    *("evhttp_bind_socket_with_handle", "lws_create_context", "mg_bind", "mg_http_listen", "mg_listen", "mg_start", "nng_listen"),
    *("soup_server_listen", "soup_server_listen_all", "uv_listen", "uv_udp_recv_start", "zmq_bind"),
)
# Classes of C++ libraries, by how they are written.
_CLASSES: Mapping[str, re.Pattern[str]] = {
    "asio's acceptor": re.compile(r"\btcp\s*::\s*acceptor\b"),
    "crow": re.compile(r"\bcrow\s*::\s*(SimpleApp|App)\b"),
    "drogon": re.compile(r"\bdrogon\s*::\s*app\s*\("),
    "grpc::ServerBuilder": re.compile(r"\bgrpc\s*::\s*ServerBuilder\b"),
    "httplib::Server": re.compile(r"\bhttplib\s*::\s*(SSL)?Server\b"),
    "Pistache": re.compile(r"\b(Pistache\s*::\s*)?Http\s*::\s*Endpoint\b"),
    "Poco's server": re.compile(r"\b(Poco\s*::\s*Net\s*::\s*)?(HTTPServer|TCPServer)\s+\w+\s*[({]"),
    "Qt's server": re.compile(r"\bQ(Tcp|Http|WebSocket)Server\b"),
}
# Comments and literals, which are not code. Raw strings end where they say themselves.
_NOT_CODE = re.compile(
    r"""//(?:\\\n|[^\n])*|/\*.*?(?:\*/|\Z)|R"(?P<end>[^()\\\s]{0,16})\(.*?\)(?P=end)"|"(?:\\.|[^"\\\n])*"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])*'""",
    re.DOTALL,
)
# A word before a name makes a declaration of it, but for these.
_STATEMENTS = ("and", "case", "co_return", "co_await", "do", "else", "not", "or", "return")


def c_signs(source: bytes) -> tuple[Sign, ...]:
    """Return the signs of a service in one C or C++ source."""
    code = _NOT_CODE.sub(" ", source.decode("utf-8", "replace"))
    return tuple(Sign(Strength.STARTS, what) for what in _servers(code))


def _servers(code: str) -> Iterator[str]:
    if _calls(code, *_LISTEN):
        yield "listen()"
    elif _calls(code, *_BIND):
        yield from (f"bind() and {name}()" for name, least in _RECEIVE if _calls(code, name, least))
    yield from (f"{name}()" for name in _LIBRARY_FUNCTIONS if _calls(code, name, 1))
    yield from (name for name, pattern in _CLASSES.items() if pattern.search(code))


def _calls(code: str, function: str, least: int) -> bool:
    """Return whether the function is called with at least so many arguments.

    Methods, functions of a namespace and declarations are not calls of it.
    """
    for match in re.finditer(rf"\b{function}\s*\(", code):
        if not _is_qualified(code[: match.start()]) and _count(_arguments(code, match.end())) >= least:
            return True
    return False


def _is_qualified(before: str) -> bool:
    before = before[-200:].rstrip()
    if before.endswith((".", "->")):
        return True
    if before.endswith("::"):
        return bool(re.search(r"[\w>]\s*::$", before))
    word = re.search(r"(\w+)[\s*&]*$", before)
    return word is not None and word[1] not in _STATEMENTS and not word[1].isdigit()


def _arguments(code: str, start: int) -> str:
    """Return what is between the parenthesis before `start` and its partner."""
    depth = 1
    for position in range(start, min(len(code), start + 4096)):
        depth += {"(": 1, ")": -1}.get(code[position], 0)
        if not depth:
            return code[start:position]
    return ""


def _count(arguments: str) -> int:
    """Return the number of arguments, those of inner calls left out."""
    depth, commas = 0, 0
    for character in arguments:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(character, 0)
        commas += character == "," and not depth
    return commas + 1 if arguments.strip() else 0
