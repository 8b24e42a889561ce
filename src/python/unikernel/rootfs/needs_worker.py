"""Looks in Python sources for what they ask of an operating system, run by the interpreter of the image.

Standard input: NUL-separated pairs of a source file and its module's name. Standard output: a line of JSON for each thing that is asked
for: [capability, what, module, how]. Sources that do not parse are skipped: they do not run either.
"""

import ast
import json
import operator
import sys

# Modules whose use asks for something. To start a program takes fork and exec; it is said once.
_MODULES = {
    "subprocess": "fork",
    "multiprocessing": "fork",
    "pty": "fork",
    "threading": "threads",
    "_thread": "threads",
    "ctypes": "dynamic_loading",
    "cffi": "dynamic_loading",
}
_OF_MODULES = {
    ("os", "fork"): "fork",
    ("os", "forkpty"): "fork",
    ("os", "popen"): "fork",
    ("os", "posix_spawn"): "fork",
    ("os", "posix_spawnp"): "fork",
    ("os", "system"): "fork",
    ("asyncio", "create_subprocess_exec"): "fork",
    ("asyncio", "create_subprocess_shell"): "fork",
    ("concurrent.futures", "ProcessPoolExecutor"): "fork",
    ("concurrent.futures", "ThreadPoolExecutor"): "threads",
    ("socket", "AF_INET6"): "ipv6",
}
for _name in ("spawnl", "spawnle", "spawnlp", "spawnlpe", "spawnv", "spawnve", "spawnvp", "spawnvpe"):
    _OF_MODULES["os", _name] = "fork"
for _name in ("execl", "execle", "execlp", "execlpe", "execv", "execve", "execvp", "execvpe"):
    _OF_MODULES["os", _name] = "exec"


_COMPARISONS = {ast.Eq: operator.eq, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.LtE: operator.le}


def _of_this_version(test: ast.expr):  # type: ignore[no-untyped-def]
    """Return the outcome of `sys.version_info >= (3, 9)` and the like, or None.

    A service on one version of Python does not do what it does on others.
    """
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.left, ast.Attribute):
        return None
    owner, bound = test.left.value, test.comparators[0]
    if test.left.attr != "version_info" or not isinstance(owner, ast.Name) or owner.id != "sys" or not isinstance(bound, ast.Tuple):
        return None
    compare = _COMPARISONS.get(type(test.ops[0]))
    try:
        version = ast.literal_eval(bound)
        return compare(sys.version_info, version) if compare else None
    except (TypeError, ValueError):
        return None


class _Visitor(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: set = set()  # type: ignore[type-arg]
        # Names in the source -> the modules that they stand for.
        self.modules: dict = {}  # type: ignore[type-arg]

    def visit_If(self, node: ast.If) -> None:
        # What only a type checker imports is not there at run time.
        test = node.test
        name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
        outcome = False if name == "TYPE_CHECKING" else _of_this_version(test)
        if outcome is None:
            self.generic_visit(node)
            return
        for child in node.body if outcome else node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._module(alias.name)
            self.modules[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            return
        self._module(node.module)
        for alias in node.names:
            self._module(node.module + "." + alias.name)
            capability = _OF_MODULES.get((node.module, alias.name))
            if capability:
                self.found.add((capability, node.module + "." + alias.name, "imported"))
            self.modules[alias.asname or alias.name] = node.module + "." + alias.name

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self._path(node.value)
        capability = _OF_MODULES.get((owner, node.attr))
        if capability:
            self.found.add((capability, owner + "." + node.attr, "used"))
        self.generic_visit(node)

    def _path(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.modules.get(node.id, "")
        if isinstance(node, ast.Attribute):
            return self._path(node.value) + "." + node.attr
        return ""

    def _module(self, name: str) -> None:
        top = name.partition(".")[0]
        # These modules of it start nothing.
        if top in _MODULES and name not in ("multiprocessing.shared_memory", "ctypes.wintypes"):
            self.found.add((_MODULES[top], top, "imported"))


def main() -> None:
    words = sys.stdin.buffer.read().split(b"\0")[:-1]
    for start in range(0, len(words), 2):
        path, module = (word.decode("utf-8", "surrogateescape") for word in words[start : start + 2])
        with open(path, "rb") as stream:
            source = stream.read()
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        visitor = _Visitor()
        visitor.visit(tree)
        for capability, what, how in sorted(visitor.found):
            print(json.dumps([capability, what, module, how]))


main()
