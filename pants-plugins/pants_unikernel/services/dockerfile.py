"""The facts in a Dockerfile: ports, the program that starts, bases, and copied files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from pants_unikernel.services.python_signs import starts_server

# Programs of an image that serve, beside those that Python has.
_SERVERS = (
    *("apache2", "apache2ctl", "caddy", "envoy", "haproxy", "httpd", "lighttpd", "memcached", "mongod", "mysqld", "nginx"),
    *("php-fpm", "postgres", "puma", "redis-server", "traefik", "unicorn", "varnishd"),
)
_CONTINUATION = re.compile(r"\\[ \t]*\r?\n(?:[ \t]*#[^\n]*\n)*")
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::?-(?P<default>[^}]*))?\}|(?P<plain>\w+))")
# Shells, and programs that start another one.
_STARTERS = ("/bin/bash", "/bin/sh", "bash", "dumb-init", "env", "exec", "sh", "tini")


@dataclass
class _Stage:
    """A stage of a build.

    `below` is the earlier stage that it starts from, or None where it starts from the image `base`.
    """

    base: str
    below: Optional[_Stage] = None
    ports: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Dockerfile:
    """The facts of one Dockerfile.

    `bases` are the images that stages start FROM, with build arguments filled in; `base` is the
    final stage's. `copied` are the paths of the build's context that are copied into a stage.
    `ports` and `command` are the final stage's.
    """

    bases: tuple[str, ...]
    base: str
    copied: tuple[str, ...]
    ports: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def starts(self) -> str:
        """The server that the image starts, or an empty string."""
        words = [word for word in self.command if word not in _STARTERS and not word.startswith("-")]
        program = words[0].rpartition("/")[2] if words else ""
        if re.fullmatch(r"python[\d.]*", program):
            return _started_by_python(self.command)
        return program if program in _SERVERS or starts_server(program, words[1:]) else ""


def parse_dockerfile(text: str, build_arguments: Mapping[str, str], target_stage: str = "") -> Dockerfile:
    """Read a Dockerfile as far as it tells what an image is for.

    `build_arguments` go before the defaults in it.
    """
    stages: list[_Stage] = []
    by_name: dict[str, _Stage] = {}
    arguments: dict[str, str] = {}
    copied: list[str] = []
    for instruction, rest in _instructions(text):
        words = rest.split()
        if instruction == "ARG" and words:
            name, _, default = words[0].partition("=")
            arguments[name] = build_arguments.get(name, _filled(default.strip("\"'"), arguments))
        elif instruction == "FROM":
            words = [_filled(word, arguments) for word in words if not word.startswith("--")]
            name = words[2] if len(words) == 3 and words[1].lower() == "as" else ""
            base = words[0] if words else ""
            stages.append(_Stage(base, by_name.get(base.lower())))
            by_name[str(len(stages) - 1)] = stages[-1]
            if name:
                by_name[name.lower()] = stages[-1]
        elif instruction == "EXPOSE" and stages:
            stages[-1].ports += [_filled(word, arguments) for word in words]
        elif instruction in ("CMD", "ENTRYPOINT") and stages:
            # An entry point comes before its arguments, in whichever order they are written.
            own = _words(rest)
            stages[-1].command = own + stages[-1].command if instruction == "ENTRYPOINT" else stages[-1].command + own
        elif instruction in ("ADD", "COPY") and "--from=" not in rest:
            copied += [_filled(word, arguments) for word in _words(rest) if not word.startswith("--")][:-1]
    final = by_name.get(target_stage.lower()) if target_stage else None
    return _described(stages, final or (stages[-1] if stages else _Stage("")), copied)


def _described(stages: Sequence[_Stage], final: _Stage, copied: Sequence[str]) -> Dockerfile:
    ports = list(final.ports)
    stage, command = final, final.command
    while stage.below is not None:
        stage = stage.below
        ports += stage.ports
        command = command or stage.command
    bases = dict.fromkeys(each.base for each in stages if each.base and each.below is None)
    return Dockerfile(tuple(bases), stage.base, tuple(copied), tuple(dict.fromkeys(ports)), tuple(command))


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    for line in _CONTINUATION.sub(" ", text + "\n").splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction and not instruction.startswith("#"):
            yield instruction.upper(), rest.strip()


def _words(rest: str) -> list[str]:
    """Return the words of an instruction in either of its forms, ["exec"] or shell."""
    options = [word for word in rest.split() if word.startswith("--")]
    start = rest.find("[")
    if start >= 0 and not rest[:start].replace(" ".join(options), "").strip():
        try:
            return [*options, *map(str, json.loads(rest[start:]))]
        except ValueError:
            pass
    return rest.replace('"', " ").replace("'", " ").split()


def _filled(word: str, arguments: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        return arguments.get(match["braced"] or match["plain"], "") or match["default"] or ""

    return _VARIABLE.sub(value, word)


def _started_by_python(command: Sequence[str]) -> str:
    words = list(command)
    if "-m" in words[:-1]:
        module = words[words.index("-m") + 1]
        return module if starts_server(module, words) else ""
    is_django = any(word.endswith("manage.py") for word in words) and "runserver" in words
    return "manage.py runserver" if is_django else ""
