"""What rules look for: the one target that a field names, and programs on PATH."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pants.core.util_rules.system_binaries import BinaryPathRequest
from pants.engine.target import Target

from pants_unikernel import engine
from pants_unikernel.address_fields import AddressField
from pants_unikernel.util_rules.failures import UnikernelBuildError


async def find_one_target(field: AddressField) -> Target:
    """Raises UnikernelBuildError when what the field names is not one target."""
    targets = await engine.find_targets(field.to_unparsed_address_inputs())
    if len(targets) != 1:
        raise UnikernelBuildError(
            f"{field.address}: the `{field.alias}` field names {field.value}, which stands for {len(targets)} targets; name one of them."
        )
    return targets[0]


async def find_program(name: str, environment: Mapping[str, str], what: str, fix: str = "") -> str:
    """Its path, by the PATH of the environment. Raises UnikernelBuildError, in which `what` tells of the program, and `fix` what to do."""
    path = environment.get("PATH", os.defpath)
    (found,) = await engine.find_binaries([BinaryPathRequest(binary_name=name, search_path=path.split(os.pathsep))])
    if found.first_path is None:
        raise UnikernelBuildError(f"{what} is not on {path}{f': {fix}' if fix else ''}.")
    return found.first_path.path
