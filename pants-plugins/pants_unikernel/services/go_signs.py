"""Signs of a service in Go sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pants_unikernel.services.signs import Sign, Strength

# Functions and types by the package that has them. A major version at the end of a path (`/v5`) is
# not part of a key.
_NAMES: Mapping[str, Sequence[str]] = {
    "crypto/tls": ("Listen", "NewListener"),
    "github.com/astaxie/beego": ("Run",),
    "github.com/beego/beego/server/web": ("Run",),
    "github.com/emicklei/go-restful": ("NewContainer",),
    "github.com/gin-gonic/gin": ("Default", "New"),
    "github.com/go-chi/chi": ("NewMux", "NewRouter"),
    "github.com/go-kratos/kratos": ("New",),
    "github.com/go-martini/martini": ("Classic", "New"),
    "github.com/gobuffalo/buffalo": ("New",),
    "github.com/gofiber/fiber": ("New",),
    "github.com/gorilla/mux": ("NewRouter",),
    "github.com/julienschmidt/httprouter": ("New",),
    "github.com/kataras/iris": ("Default", "New"),
    "github.com/labstack/echo": ("New",),
    "github.com/quic-go/quic-go": ("ListenAddr",),
    "github.com/soheilhy/cmux": ("New",),
    "github.com/urfave/negroni": ("Classic", "New"),
    "github.com/valyala/fasthttp": ("ListenAndServe", "ListenAndServeTLS", "Serve", "Server"),
    "google.golang.org/grpc": ("NewServer",),
    "net": ("Listen", "ListenConfig", "ListenPacket", "ListenTCP", "ListenUDP"),
    "net/http": ("ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS", "Server"),
    "net/http/fcgi": ("Serve",),
}
# The names that packages have, where those are not the last part of their paths.
_PACKAGE_NAMES = {"github.com/emicklei/go-restful": "restful", "github.com/quic-go/quic-go": "quic"}
_MAJOR_VERSION = re.compile(r"(/v\d+|\.v\d+)$")
_COMMENT_OR_LITERAL = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))|(?P<literal>`[^`]*`|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""", re.DOTALL
)
_IMPORT = re.compile(r"^import\s*(?:\((?P<several>[^)]*)\)|(?P<one>[^\n]*))", re.MULTILINE)
_IMPORTED = re.compile(r'(?:(?P<alias>[\w.]+)\s+)?["`](?P<path>[^"`\n]+)["`]')


def go_imports(source: bytes) -> dict[str, str]:
    """Return the imported packages by path, each with its alias, or "" without one."""
    code = _without(source, comments_only=True)
    imports = {}
    for block in _IMPORT.finditer(code):
        for match in _IMPORTED.finditer(block["several"] or block["one"] or ""):
            imports[match["path"]] = match["alias"] or ""
    return imports


def go_signs(source: bytes) -> tuple[Sign, ...]:
    """Return the signs of a service in one Go source."""
    code = _without(source)
    return tuple(Sign(Strength.STARTS, what) for what in _servers(code, go_imports(source)))


def module_path(go_mod: bytes) -> str:
    """Return the path that a `go.mod` gives its module, or an empty string."""
    match = re.search(r'^module\s+"?(?P<path>[^\s"]+)', go_mod.decode("utf-8", "replace"), re.MULTILINE)
    return match["path"] if match else ""


def _servers(code: str, imports: Mapping[str, str]) -> Iterator[str]:
    for path, alias in imports.items():
        package = _MAJOR_VERSION.sub("", path)
        names = "|".join(_NAMES.get(package, ()))
        if not names or alias == "_":
            continue
        name = alias or _PACKAGE_NAMES.get(package, package.rpartition("/")[2])
        before = r"(?<![\w.])" if alias == "." else rf"(?<![\w.]){re.escape(name)}\s*\.\s*"
        match = re.search(rf"{before}(?P<name>{names})\b", code)
        if match:
            yield f"{package}.{match['name']}"


def _without(source: bytes, *, comments_only: bool = False) -> str:
    """Return a source without comments, and without the content of literals."""

    def replace(match: re.Match[str]) -> str:
        return " " if match["comment"] else match[0] if comments_only else '""'

    return _COMMENT_OR_LITERAL.sub(replace, source.decode("utf-8", "replace"))
