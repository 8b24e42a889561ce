"""What a `unikernel_image` depends on: its application, the targets of its extra files, and its library OS where that is a target; and what
tests and deployments of images do: the image, and the tests that run in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import FieldSet, InferDependenciesRequest, InferredDependencies
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.address_fields import ImageAddressField
from pants_unikernel.image_test_target import UnikernelPythonTestsTestsField
from pants_unikernel.library_os_target import LibraryOsInputsField
from pants_unikernel.target_types import UnikernelImageAppField, UnikernelImageFilesField, UnikernelImageLibraryOsField
from pants_unikernel.util_rules import library_os
from pants_unikernel.util_rules.library_os import LibraryOsTargets


@dataclass(frozen=True)
class UnikernelImageDependenciesFieldSet(FieldSet):
    required_fields = (UnikernelImageAppField, UnikernelImageFilesField, UnikernelImageLibraryOsField)

    app: UnikernelImageAppField
    files: UnikernelImageFilesField
    library_os: UnikernelImageLibraryOsField


class InferUnikernelImageDependencies(InferDependenciesRequest):  # type: ignore[type-arg]
    infer_from = UnikernelImageDependenciesFieldSet


@rule(desc="Infer the dependencies of a unikernel image", level=LogLevel.DEBUG)
async def infer_unikernel_image_dependencies(
    request: InferUnikernelImageDependencies, library_oses: LibraryOsTargets
) -> InferredDependencies:
    app = await engine.parse_addresses(request.field_set.app.to_unparsed_address_inputs())
    files = await engine.parse_addresses(request.field_set.files.to_unparsed_address_inputs())
    target = library_oses.named(request.field_set.library_os.value)
    if target is None:
        return InferredDependencies(sorted({*app, *files}))
    inputs = await engine.parse_addresses(target[LibraryOsInputsField].to_unparsed_address_inputs())
    return InferredDependencies(sorted({*app, *files, target.address, *inputs}))


@dataclass(frozen=True)
class OfImageDependenciesFieldSet(FieldSet):
    required_fields = (ImageAddressField,)

    image: ImageAddressField


class InferOfImageDependencies(InferDependenciesRequest):  # type: ignore[type-arg]
    infer_from = OfImageDependenciesFieldSet


@rule(desc="Infer the image that a target is about", level=LogLevel.DEBUG)
async def infer_of_image_dependencies(request: InferOfImageDependencies) -> InferredDependencies:
    return InferredDependencies(await engine.parse_addresses(request.field_set.image.to_unparsed_address_inputs()))


@dataclass(frozen=True)
class UnikernelPythonTestsDependenciesFieldSet(FieldSet):
    required_fields = (UnikernelPythonTestsTestsField,)

    tests: UnikernelPythonTestsTestsField


class InferUnikernelPythonTestsDependencies(InferDependenciesRequest):  # type: ignore[type-arg]
    infer_from = UnikernelPythonTestsDependenciesFieldSet


@rule(desc="Infer the tests that run in an image", level=LogLevel.DEBUG)
async def infer_unikernel_python_tests_dependencies(request: InferUnikernelPythonTestsDependencies) -> InferredDependencies:
    return InferredDependencies(await engine.parse_addresses(request.field_set.tests.to_unparsed_address_inputs()))


def rules() -> Iterable[Rule | UnionRule]:
    return (
        *collect_rules(),
        *library_os.rules(),
        UnionRule(InferDependenciesRequest, InferOfImageDependencies),
        UnionRule(InferDependenciesRequest, InferUnikernelImageDependencies),
        UnionRule(InferDependenciesRequest, InferUnikernelPythonTestsDependencies),
    )
