"""`package` for this plugin's targets: hands on to the rule for their type."""

from __future__ import annotations

from collections.abc import Iterable

from pants.core.goals.package import BuiltPackage, PackageFieldSet
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule

from pants_unikernel import engine
from pants_unikernel.package_types import AnyPackageFieldSet


@rule
async def package_target(field_set: AnyPackageFieldSet) -> BuiltPackage:
    target = await engine.find_target(field_set.address)
    return await engine.package_own(target)


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(PackageFieldSet, AnyPackageFieldSet))
