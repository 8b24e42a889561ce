"""Promises about everything that the backends register: its type hints can be evaluated, and `help` and `peek` can show it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Iterator
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import pytest
from pants.backend.project_info.peek import TargetData
from pants.engine.addresses import Address
from pants.engine.fs import EMPTY_SNAPSHOT
from pants.engine.rules import TaskRule
from pants.engine.target import COMMON_TARGET_FIELDS, Dependencies, Field, SourcesField, Target
from pants.engine.unions import UnionRule
from pants.help.help_info_extracter import TargetFieldHelpInfo

import pants_unikernel
from pants_unikernel import register
from pants_unikernel.cc import register as cc_register
from pants_unikernel.target_types import UnikernelImageTarget

_OWN_PACKAGES = ("pants_unikernel", "unikernel")
_TARGET_TYPES = tuple(dict.fromkeys((*register.target_types(), *cc_register.target_types())))
_RULES = tuple(dict.fromkeys((*register.rules(), *cc_register.rules())))
_FIELDS = tuple(
    (target_type, field)
    for target_type in _TARGET_TYPES
    for field in (*target_type.core_fields, *getattr(target_type, "moved_fields", ()))
)
# Pants 2.17 does not write these keys; 2.20 and newer do.
_NEWER_PEEK_KEYS = {"additional_info", "goals"}


@pytest.fixture()
def python_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate hints as Python does: Pants 2.17 patches `typing` so that a few `X | None` can be evaluated on CPython 3.9, and others not."""
    pristine = next(cls for cls in typing.ForwardRef.__mro__ if cls.__module__ == "typing")
    monkeypatch.setattr(typing, "ForwardRef", pristine)


def _is_own(item: Any) -> bool:
    return (inspect.isclass(item) or inspect.isfunction(item)) and item.__module__.partition(".")[0] in _OWN_PACKAGES


def _registered() -> Iterator[Any]:
    """The functions of rules, and the classes of targets, fields, subsystems, goals, requests and products."""
    for target_type in _TARGET_TYPES:
        yield from (target_type, *target_type.core_fields)
    for rule in _RULES:
        if isinstance(rule, TaskRule):
            yield from (rule.func, rule.output_type, *rule.input_selectors)
            for awaited in rule.input_gets:
                yield from (awaited.output_type, *awaited.input_types)
        elif isinstance(rule, UnionRule):
            yield from (rule.union_base, rule.union_member)


def _classes_of_the_plugin() -> Iterator[type]:
    for module in walk_packages(pants_unikernel.__path__, "pants_unikernel."):
        # Tests are not part of the plugin.
        if not module.name.endswith("_test"):
            items = vars(import_module(module.name)).values()
            yield from (item for item in items if inspect.isclass(item) and item.__module__ == module.name)


def _functions_of(cls: type) -> Iterator[Any]:
    for member in vars(cls).values():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", getattr(member, "func", member))
        # The methods that `dataclass` generates have the hints of the class, in a module without its names.
        if inspect.isfunction(function) and function.__code__.co_filename != "<string>":
            yield function


def _hints_of(item: Any) -> dict[str, Any]:
    if not inspect.isclass(item):
        return typing.get_type_hints(item)
    # The hints of the class itself: `get_type_hints` adds those of its bases, and some of Pants' own cannot be evaluated on CPython 3.9.
    alone = type(item.__name__, (), {"__module__": item.__module__, "__annotations__": vars(item).get("__annotations__", {})})
    return typing.get_type_hints(alone)


def _classes_in(hint: Any) -> Iterator[Any]:
    if inspect.isclass(hint):
        yield hint
    for argument in typing.get_args(hint):
        yield from _classes_in(argument)


def _unevaluable(roots: Iterable[Any]) -> tuple[dict[str, str], int]:
    """Return the problem of each function and class whose hints cannot be evaluated, by its name, and the number of those checked.

    Starts at `roots` and goes on to the bases, methods, nested classes and hints of each.
    """
    waiting, seen, problems, count = list(roots), set[int](), dict[str, str](), 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if inspect.isclass(item):
            waiting += item.__mro__
        if not _is_own(item):
            continue
        count += 1
        if inspect.isclass(item):
            waiting += _functions_of(item)
            waiting += filter(inspect.isclass, vars(item).values())
        try:
            hints = _hints_of(item)
        except (NameError, TypeError) as error:
            problems[f"{item.__module__}.{item.__qualname__}"] = str(error)
        else:
            waiting += (cls for hint in hints.values() for cls in _classes_in(hint))
    return problems, count


@pytest.mark.usefixtures("python_alone")
def test_type_hints_of_all_that_is_registered_can_be_evaluated() -> None:
    problems, count = _unevaluable(_registered())
    assert problems == {}
    assert count > 250


@pytest.mark.usefixtures("python_alone")
def test_type_hints_of_all_classes_of_the_plugin_can_be_evaluated() -> None:
    problems, count = _unevaluable(_classes_of_the_plugin())
    assert problems == {}
    assert count > 300


class _WithUnionInClass:
    size: int | None = None


class _WithUnionInMethod:
    def read(self, path: dict[str, str] | None) -> str:
        return str(path)


class _WithNestedClass:
    class Nested:
        @property
        def size(self) -> int | None:
            return None


class _WithHint:
    nested: typing.Optional[tuple[_WithUnionInClass, ...]]


@pytest.mark.usefixtures("python_alone")
@pytest.mark.parametrize(
    "cls, culprit",
    [
        (_WithUnionInClass, "_WithUnionInClass"),
        (_WithUnionInMethod, "_WithUnionInMethod.read"),
        (_WithNestedClass, "_WithNestedClass.Nested.size"),
        (_WithHint, "_WithUnionInClass"),
    ],
)
def test_hint_that_cpython_39_cannot_evaluate_is_found(cls: type, culprit: str) -> None:
    problems, _ = _unevaluable([cls])
    assert list(problems) == [f"{__name__}.{culprit}"]


@pytest.mark.parametrize("target_type, field", _FIELDS)
def test_help_describes_each_field(target_type: type[Target], field: type[Field]) -> None:
    info = TargetFieldHelpInfo.create(field, provider="")
    assert info.alias == field.alias, target_type
    assert info.description


def _key_in_peek(field: type[Field]) -> str:
    return f"{field.alias}_raw" if issubclass(field, (SourcesField, Dependencies)) else field.alias


def _keys_of_peek() -> set[str]:
    """Return the keys that `peek` writes for a target without fields."""

    class Bare(Target):
        alias = "bare"
        core_fields = ()

    data = TargetData(Bare({}, Address("bare")), EMPTY_SNAPSHOT, (), (), (), ())
    return {*data.to_dict(include_dep_rules=True), *_NEWER_PEEK_KEYS}


@pytest.mark.parametrize("target_type", _TARGET_TYPES)
def test_no_field_has_the_name_of_a_key_that_peek_writes(target_type: type[Target]) -> None:
    assert {"address", "dependencies", "sources", "sources_fingerprint", "target_type"} < _keys_of_peek()
    keys = [_key_in_peek(field) for field in target_type.core_fields]
    assert not _keys_of_peek() & set(keys)
    assert len(keys) == len(set(keys))


def test_peek_writes_the_address_of_an_image_beside_its_ip_address() -> None:
    fields = {"app": ":web", "network": "static", "ip_address": "10.0.0.2/24"}
    image = UnikernelImageTarget(fields, Address("services/web", target_name="unikernel"))
    document = TargetData(image, None, ()).to_dict()
    assert (document["address"], document["ip_address"]) == ("services/web:unikernel", "10.0.0.2/24")


def test_common_fields_are_those_of_each_target() -> None:
    assert all(set(COMMON_TARGET_FIELDS) <= set(target_type.core_fields) for target_type in _TARGET_TYPES)
