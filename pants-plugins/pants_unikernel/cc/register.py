"""C and C++ binaries. Complete by itself: `pants.backend.experimental.cc` may be enabled as well, or not."""

from __future__ import annotations

from collections.abc import Iterable

from pants.backend.experimental.cc import register as cc_register
from pants.engine.rules import Rule
from pants.engine.target import Target
from pants.engine.unions import UnionRule

from pants_unikernel.cc import package_binary, run_binary, toolchain
from pants_unikernel.cc.target_types import CCBinaryTarget
from pants_unikernel.goals import package


def target_types() -> Iterable[type[Target]]:
    return (*cc_register.target_types(), CCBinaryTarget)


def rules() -> Iterable[Rule | UnionRule]:
    return (*cc_register.rules(), *toolchain.rules(), *package.rules(), *package_binary.rules(), *run_binary.rules())
