"""What a `unikernel_image` depends on: its application, and the targets of its extra files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import FieldSet, InferDependenciesRequest, InferredDependencies
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.target_types import UnikernelImageAppField, UnikernelImageFilesField


@dataclass(frozen=True)
class UnikernelImageDependenciesFieldSet(FieldSet):
    required_fields = (UnikernelImageAppField, UnikernelImageFilesField)

    app: UnikernelImageAppField
    files: UnikernelImageFilesField


class InferUnikernelImageDependencies(InferDependenciesRequest):  # type: ignore[type-arg]
    infer_from = UnikernelImageDependenciesFieldSet


@rule(desc="Infer the dependencies of a unikernel image", level=LogLevel.DEBUG)
async def infer_unikernel_image_dependencies(request: InferUnikernelImageDependencies) -> InferredDependencies:
    app = await engine.parse_addresses(request.field_set.app.to_unparsed_address_inputs())
    files = await engine.parse_addresses(request.field_set.files.to_unparsed_address_inputs())
    return InferredDependencies(sorted({*app, *files}))


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), UnionRule(InferDependenciesRequest, InferUnikernelImageDependencies))
