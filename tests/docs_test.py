"""What the documentation names exists: targets, files, fields, options and the pages that it links."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pants.engine.goal import Goal
from pants.engine.rules import TaskRule
from pants.option.option_types import collect_options_info
from pants.option.subsystem import Subsystem

from pants_unikernel import register

_PAGES = [Path("README.md"), *sorted(Path("docs").glob("*.md"))]
# Its commands are for a repository of the reader's own.
_OF_THE_READER = Path("docs/getting-started.md")
_TOP_LEVEL = ("3rdparty/", "docs/", "pants-plugins/", "src/", "tests/")
_TARGET_TYPES = {target_type.alias: target_type for target_type in register.target_types()}


def _subsystems() -> dict[str, type[Subsystem]]:
    found = {}
    for rule in register.rules():
        if isinstance(rule, TaskRule):
            for cls in (rule.output_type, *rule.input_selectors):
                subsystem = cls.subsystem_cls if issubclass(cls, Goal) else cls
                if issubclass(subsystem, Subsystem):
                    found[str(subsystem.options_scope)] = subsystem
    return found


_SUBSYSTEMS = _subsystems()


def _commands(text: str) -> Iterator[list[str]]:
    """Return the words of each `pants` command in a page."""
    for line in text.splitlines():
        for match in re.finditer(r"(?:^\s*(?:\$ )?|`|&& )(?:\./)?pants ([^`#\n]*)", line):
            yield match[1].split("&&")[0].split()


def _addresses(text: str) -> Iterator[str]:
    for words in _commands(text):
        yield from (word for word in words if word.startswith(_TOP_LEVEL))
    yield from re.findall(rf"`((?:{'|'.join(_TOP_LEVEL)})[^\s`:]*:[a-z][\w-]*)`", text)


def _names(build: Path) -> set[str]:
    """Return the names of the targets that a BUILD file declares."""
    names = set()
    for node in ast.walk(ast.parse(build.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            given = [item.value for item in node.keywords if item.arg == "name"]
            names.add(str(ast.literal_eval(given[0])) if given else build.parent.name)
    return names


def _exists(address: str) -> bool:
    path, colon, name = address.partition(":")
    if name == ":":
        return any(Path(path).glob("**/BUILD"))
    if not colon and Path(path).is_file():
        return True
    build = Path(path, "BUILD")
    return build.is_file() and (name or Path(path).name) in _names(build)


@pytest.mark.parametrize("page", [page for page in _PAGES if page != _OF_THE_READER], ids=str)
def test_addresses_exist(page: Path) -> None:
    assert [address for address in _addresses(page.read_text()) if not _exists(address)] == []


@pytest.mark.parametrize("page", _PAGES, ids=str)
def test_links_resolve(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    relative = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    assert [link for link in relative if not (page.parent / link).exists()] == []


def _flags() -> set[str]:
    """Return the flags of all options that the backend registers, with their scopes."""
    return {
        f"--{scope}-{info.flag_names[0].lstrip('-')}"
        for scope, subsystem in _SUBSYSTEMS.items()
        for info in (*collect_options_info(subsystem), *collect_options_info(subsystem.EnvironmentAware))
    }


@pytest.mark.parametrize("page", _PAGES, ids=str)
def test_options_are_registered(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"--unikernel-[a-z-]+[a-z]", text)
    named += [f"--{scope}-{option.replace('_', '-')}" for scope, option in re.findall(r"\[(unikernel-[a-z-]+)\]\.([a-z_]+)", text)]
    assert sorted(set(named) - _flags()) == []


@pytest.mark.parametrize("page", _PAGES, ids=str)
def test_fields_of_targets_are_registered(page: Path) -> None:
    missing = []
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(code)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _TARGET_TYPES:
                continue
            target_type = _TARGET_TYPES[node.func.id]
            known = {"name", *(field.alias for field in target_type.core_fields)}
            known |= {field.alias for field in getattr(target_type, "moved_fields", ())}
            missing += [f"{node.func.id}({word.arg}=)" for word in node.keywords if word.arg and word.arg not in known]
    assert missing == []


def test_what_is_checked_is_found() -> None:
    text = "".join(page.read_text() for page in _PAGES)
    assert "src/services/greeter:unikernel" in list(_addresses(text))
    assert {"--unikernel-linux-search-path", "--unikernel-run-debug", "--unikernel-verify-keys"} <= _flags()
    assert not _exists("src/services/greeter:nothing") and not _exists("src/nothing::")
