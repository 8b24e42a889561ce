"""The targets that a goal's arguments name. A bad argument does not end the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from pants.base.specs import RawSpecs, Specs
from pants.engine.target import Target

from pants_unikernel import engine

# The fields of RawSpecs that hold specs: what a user writes, a kind each.
_KINDS = ("address_literals", "file_literals", "file_globs", "dir_literals", "dir_globs", "recursive_globs", "ancestor_globs")


@dataclass(frozen=True)
class NamedTargets:
    """The targets that arguments name.

    `literal` are those that are named by address. `problems` has a line for each argument that
    names nothing.
    """

    targets: tuple[Target, ...]
    literal: frozenset[Target]
    problems: tuple[str, ...]


async def find_named_targets(specs: Specs) -> NamedTargets:
    targets: dict[Target, None] = {}
    literal: set[Target] = set()
    problems = []
    for one in _each(specs):
        try:
            found = await engine.targets_of_specs(one)
        except Exception as error:
            problems.append(one_line(error))
            continue
        targets.update(dict.fromkeys(found))
        if one.includes.address_literals:
            literal.update(found)
    return NamedTargets(tuple(sorted(targets, key=lambda target: target.address.spec)), frozenset(literal), tuple(problems))


def _each(specs: Specs) -> Iterator[Specs]:
    """Yield each argument alone."""
    includes = specs.includes
    if includes.from_change_detection:
        yield specs
        return
    nothing = dataclasses.replace(includes, **dict.fromkeys(_KINDS, ()))
    for kind in _KINDS:
        for spec in getattr(includes, kind):
            alone: RawSpecs = dataclasses.replace(nothing, **{kind: (spec,)})
            yield dataclasses.replace(specs, includes=alone)


def one_line(error: object) -> str:
    """Return an error's message as one line."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
