"""`run` for `cc_binary`."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pants.core.goals.run import RunRequest
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.package_binary import CCBinaryFieldSet


@rule(desc="Prepare to run a C or C++ binary", level=LogLevel.DEBUG)
async def run_cc_binary(field_set: CCBinaryFieldSet) -> RunRequest:
    package = await engine.package_target(field_set.address)
    path = field_set.output_path.value_or_default(file_ending=None)
    return RunRequest(digest=package.digest, args=(os.path.join("{chroot}", path),))


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *CCBinaryFieldSet.rules())
