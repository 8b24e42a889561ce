"""`package` for this plugin's targets: hands on to the rule for their type."""

from __future__ import annotations

from collections.abc import Iterable

from pants.core.goals.package import BuiltPackage, PackageFieldSet
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionMembership, UnionRule

from pants_unikernel import engine
from pants_unikernel.package_types import AnyPackageFieldSet, OwnPackageFieldSet


@rule
async def package_target(field_set: AnyPackageFieldSet, union_membership: UnionMembership) -> BuiltPackage:
    target = await engine.find_target(field_set.address)
    types: Iterable[type[OwnPackageFieldSet]] = union_membership.get(OwnPackageFieldSet)
    (own,) = (type_ for type_ in types if type_.is_applicable(target))
    return await engine.package_own(own.create(target))


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(PackageFieldSet, AnyPackageFieldSet))
