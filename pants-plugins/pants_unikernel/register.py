"""The backend `pants_unikernel`: `unikernel_image`, what tests and deploys it, and `cc_binary`, whose programs it can hold."""

from __future__ import annotations

from collections.abc import Iterable

from pants.engine.rules import Rule
from pants.engine.target import Target
from pants.engine.unions import UnionRule

from pants_unikernel import dependency_inference, deployment_target, image_test_target, library_os_target
from pants_unikernel.cc import register as cc
from pants_unikernel.goals import (
    export_kits,
    package,
    package_deployment,
    package_image,
    publish_image,
    readiness,
    run_image,
    tailor,
    test_image,
    verify_images,
)
from pants_unikernel.subsystems import toolkit
from pants_unikernel.target_types import UnikernelImageTarget
from pants_unikernel.util_rules import toolchain


def target_types() -> Iterable[type[Target]]:
    return (
        *cc.target_types(),
        *deployment_target.target_types(),
        *image_test_target.target_types(),
        *library_os_target.target_types(),
        UnikernelImageTarget,
    )


def rules() -> Iterable[Rule | UnionRule]:
    return (
        *cc.rules(),
        *dependency_inference.rules(),
        *export_kits.rules(),
        *package.rules(),
        *package_deployment.rules(),
        *package_image.rules(),
        *publish_image.rules(),
        *readiness.rules(),
        *run_image.rules(),
        *tailor.rules(),
        *test_image.rules(),
        *toolchain.rules(),
        *toolkit.rules(),
        *verify_images.rules(),
    )
