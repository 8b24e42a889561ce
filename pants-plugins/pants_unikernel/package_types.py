"""What `package` makes of this plugin's targets.

Pants' graph of rules has all that PEXes are made of once more for each type of field set that is registered as a PackageFieldSet, whatever
it packages (the rule for Get(BuiltPackage, PexFromTargetsRequestForBuiltPackage) names no field set), and is solved anew at each start: three
percent of it a type. So this plugin registers one for all of its targets, which hands on to a union of its own.
"""

from __future__ import annotations

from abc import ABCMeta
from dataclasses import dataclass

from pants.core.goals.package import BuiltPackage, OutputPathField, PackageFieldSet
from pants.core.util_rules.environments import EnvironmentField
from pants.engine.environment import EnvironmentName
from pants.engine.target import FieldSet
from pants.engine.unions import union


class PackagedOutputPathField(OutputPathField):
    """What all targets have that this plugin packages, and no other."""


@dataclass(frozen=True)
class AnyPackageFieldSet(PackageFieldSet):
    """Of any such target: what Pants knows of."""

    required_fields = (PackagedOutputPathField,)

    output_path: PackagedOutputPathField
    environment: EnvironmentField


@union(in_scope_types=[EnvironmentName])
@dataclass(frozen=True)
class OwnPackageFieldSet(FieldSet, metaclass=ABCMeta):
    """Of one type of target: a member of this union, with a rule that packages it."""

    output_path: PackagedOutputPathField


@dataclass(frozen=True)
class OwnPackage:
    built: BuiltPackage
