"""Why an option of the kernel cannot be had: Kconfig itself does not say.

Reads the Kconfig files of one architecture as far as that takes: which options there are, what each depends on by itself and by the
menus, choices and conditions around it, and what selects it. Language: Documentation/kbuild/kconfig-language.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_ENTRY = re.compile(r"(?:menu)?config\s+(\w+)$")
_SOURCE = re.compile(r'source\s+"([^"]+)"')
_PROMPT = re.compile(r'(?:bool|tristate|int|hex|string|prompt)\s+(?:"(?:[^"\\]|\\.)*"|\'[^\']*\')(?:\s+if\s+(.+))?$')
_SELECT = re.compile(r"select\s+(\w+)(?:\s+if\s+(.+))?$")
_TOKEN = re.compile(r'\s*(\(|\)|&&|\|\||!=|!|<=|>=|=|<|>|"[^"]*"|\'[^\']*\'|\$\([^)]*\)|[\w./-]+)')
_COMPARISONS = ("=", "!=", "<", ">", "<=", ">=")


@dataclass
class _Definition:
    """`conditions` are expressions that must all hold. Without a prompt, an option can only be selected."""

    conditions: list[str]
    has_prompt: bool = False


@dataclass
class _Frame:
    """A menu, a choice or an `if`, and what holds inside it."""

    conditions: list[str] = field(default_factory=list)


class Kconfig:
    def __init__(self, tree: Path, architecture: str) -> None:
        self._tree = tree
        self._architecture = architecture
        self._definitions: dict[str, list[_Definition]] = {}
        self._selections: dict[str, list[tuple[str, str]]] = {}
        self._read(tree / "Kconfig", [])

    def __contains__(self, symbol: object) -> bool:
        return isinstance(symbol, str) and symbol[len("CONFIG_") :] in self._definitions

    def reason(self, symbol: str, wanted: str, final: Mapping[str, str]) -> str:
        """Why a symbol (CONFIG_X) is not as it was wanted in a final configuration; empty where that cannot be told."""
        name = symbol[len("CONFIG_") :]
        if wanted == "n":
            selecting = sorted({f"CONFIG_{by}" for by, _ in self._selections.get(name, ()) if final.get(f"CONFIG_{by}") == "y"})
            return f"it is selected by {', '.join(selecting)}" if selecting else ""
        reasons = []
        for definition in self._definitions.get(name, ()):
            failing = dict.fromkeys(part for text in definition.conditions for part in _failing(_parse(text), final))
            if failing:
                whole = _Expression("&&", tuple(failing)) if len(failing) > 1 else next(iter(failing))
                reasons.append(f"it depends on {whole}")
            elif not definition.has_prompt:
                reasons.append("it cannot be set by itself, only be selected by other options")
        # One definition that can be had is enough, and what is in its way is the least that has to be done.
        return min(reasons, key=len, default="")

    def _read(self, file: Path, around: list[_Frame]) -> None:
        """`around` are the frames that the file is sourced in."""
        if not file.is_file():
            return
        frames = list(around)
        entry: _Definition | _Frame | None = None
        name = ""
        for line in _statements(file.read_text(errors="replace")):
            keyword = line.split(None, 1)[0]
            match = _ENTRY.match(line)
            if match is not None:
                name = match[1]
                entry = _Definition([condition for frame in frames for condition in frame.conditions])
                self._definitions.setdefault(name, []).append(entry)
            elif keyword in ("menu", "choice", "if"):
                entry = _Frame([line[2:].strip()] if keyword == "if" else [])
                frames.append(entry)
            elif keyword in ("endmenu", "endchoice", "endif"):
                entry = None
                if len(frames) > len(around):
                    frames.pop()
            elif keyword in ("comment", "mainmenu"):
                entry = None
            elif keyword == "source":
                entry = None
                source = _SOURCE.match(line)
                if source is not None:
                    path = re.sub(r"\$\(?SRCARCH\)?", self._architecture, source[1])
                    self._read(self._tree / re.sub(r"^\$\(?srctree\)?/", "", path), frames)
            elif entry is not None:
                self._attribute(entry, name, line)

    def _attribute(self, entry: _Definition | _Frame, name: str, line: str) -> None:
        prompt = _PROMPT.match(line)
        select = _SELECT.match(line)
        if line.startswith("depends on "):
            entry.conditions.append(line[len("depends on ") :])
        elif isinstance(entry, _Definition) and prompt is not None:
            entry.has_prompt = True
            if prompt[1]:
                entry.conditions.append(prompt[1])
        elif isinstance(entry, _Definition) and select is not None:
            self._selections.setdefault(select[1], []).append((name, select[2] or ""))


def _statements(text: str) -> Iterator[str]:
    """The lines of a Kconfig file that say something: joined, stripped, without comments and help texts."""
    lines = iter(text.expandtabs().replace("\\\n", " ").splitlines())
    help_indentation: int | None = None
    in_help = False
    for line in lines:
        stripped = line.strip()
        if not stripped:
            continue
        indentation = len(line) - len(line.lstrip())
        if in_help:
            if help_indentation is None and indentation > 0:
                help_indentation = indentation
            if help_indentation is not None and indentation >= help_indentation:
                continue
            in_help = False
        if stripped in ("help", "---help---"):
            in_help, help_indentation = True, None
        elif not stripped.startswith("#"):
            # A comment after a statement; "#" in a string is one of a prompt, which is of no interest here.
            yield stripped if '"' in stripped else stripped.split(" #", 1)[0].rstrip()


# --- expressions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Expression:
    """`operator` is "&&", "||", "!", a comparison, or "" for a symbol or constant, which is `text`."""

    operator: str
    operands: tuple[_Expression, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        if not self.operator:
            return self.text
        words = [f"({operand})" if operand.operator in ("&&", "||") else str(operand) for operand in self.operands]
        if self.operator == "!":
            return f"!{words[0]}"
        return (f" {self.operator} " if self.operator in ("&&", "||") else self.operator).join(words)


def _parse(text: str) -> _Expression:
    condition, _, only_if = text.partition(" if ")
    tokens = _TOKEN.findall(condition)
    expression = _binary(tokens, ("||", "&&"))
    # `depends on X if Y`, since Linux 6.19.
    return _Expression("||", (_Expression("!", (_parse(only_if),)), expression)) if only_if else expression


def _binary(tokens: list[str], operators: tuple[str, ...]) -> _Expression:
    if not operators:
        return _comparison(tokens)
    operands = [_binary(tokens, operators[1:])]
    while tokens and tokens[0] == operators[0]:
        tokens.pop(0)
        operands.append(_binary(tokens, operators[1:]))
    return operands[0] if len(operands) == 1 else _Expression(operators[0], tuple(operands))


def _comparison(tokens: list[str]) -> _Expression:
    left = _atom(tokens)
    if tokens and tokens[0] in _COMPARISONS:
        return _Expression(tokens.pop(0), (left, _atom(tokens)))
    return left


def _atom(tokens: list[str]) -> _Expression:
    token = tokens.pop(0) if tokens else ""
    if token == "!":
        return _Expression("!", (_atom(tokens),))
    if token == "(":
        inner = _binary(tokens, ("||", "&&"))
        if tokens:
            tokens.pop(0)
        return inner
    return _Expression("", text=token)


def _failing(expression: _Expression, final: Mapping[str, str]) -> list[_Expression]:
    """The parts of a conjunction that do not hold."""
    if expression.operator == "&&":
        return [part for operand in expression.operands for part in _failing(operand, final)]
    return [expression] if _holds(expression, final) is False else []


def _holds(expression: _Expression, final: Mapping[str, str]) -> bool | None:
    """None where it cannot be told: for what the compiler is asked, and for comparisons of numbers."""
    operands = [_holds(operand, final) for operand in expression.operands]
    if expression.operator == "&&":
        return False if False in operands else None if None in operands else True
    if expression.operator == "||":
        return True if True in operands else None if None in operands else False
    if expression.operator == "!":
        return None if operands[0] is None else not operands[0]
    if expression.operator in ("=", "!="):
        left, right = (_value(operand.text, final) for operand in expression.operands)
        return None if left is None or right is None else (left == right) == (expression.operator == "=")
    if expression.operator:
        return None
    value = _value(expression.text, final)
    return None if value is None else value == "y"


def _value(text: str, final: Mapping[str, str]) -> str | None:
    if text.startswith("$") or not text:
        return None
    if text[0] in "\"'":
        return text[1:-1]
    if text in ("y", "m", "n") or text.isdigit():
        return text
    return final.get(f"CONFIG_{text}", "n").strip('"')
