"""`package` for this plugin's targets: hands on to the rule for their type."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pants.core.goals.package import BuiltPackage, PackageFieldSet
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionMembership, UnionRule

from pants_unikernel import engine
from pants_unikernel.package_types import AnyPackageFieldSet, OwnPackageFieldSet
from pants_unikernel.util_rules.failures import UnikernelBuildError

_GLOB = re.compile(r"[][*?{}\\]")


@rule
async def package_target(field_set: AnyPackageFieldSet, union_membership: UnionMembership) -> BuiltPackage:
    path = field_set.output_path.value_or_default(file_ending=None)
    glob = _GLOB.search(path)
    if glob:
        # As the output of a process it would be no path.
        raise UnikernelBuildError(
            f"{field_set.address}: it would be written to {path!r}, and Pants takes {glob[0]!r} as a part of a pattern: set the "
            f"`{field_set.output_path.alias}` field to a path without any of * ? [ ] {{ }} \\."
        )
    target = await engine.find_target(field_set.address)
    types: Iterable[type[OwnPackageFieldSet]] = union_membership.get(OwnPackageFieldSet)
    (own,) = (type_ for type_ in types if type_.is_applicable(target))
    return await engine.package_own(own.create(target))


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(PackageFieldSet, AnyPackageFieldSet))
