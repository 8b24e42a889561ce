"""Where images are pushed to: registries, repositories and tags as Pants' docker backend has them declared."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from pants.backend.docker.registries import DockerRegistryError, DockerRegistryOptions
from pants.backend.docker.subsystems.docker_options import DockerOptions
from pants.backend.docker.utils import KeyValueSequenceUtil
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.rules import Rule
from pants.engine.unions import UnionRule
from pants.util.value_interpolation import InterpolationContext, InterpolationError

from pants_unikernel import engine
from pants_unikernel.image_types import UnikernelImageFieldSet
from pants_unikernel.util_rules.failures import UnikernelBuildError, errors_of
from unikernel.oci.repository import Repository, check_tags

# To the tags of an image's OCI package, for what else is made of it.
CONTAINER_SUFFIX, KRAFTKIT_SUFFIX = "-container", "-kraftkit"
_NO_SHA256 = 64 * "0"


@dataclass(frozen=True)
class Destination:
    """`registry` is an address, which `repository` has before it. `skipped` says why nothing is pushed to it."""

    registry: str
    repository: str
    tags: tuple[str, ...]
    skipped: str = ""


async def find_destinations(
    field_set: UnikernelImageFieldSet, docker: DockerOptions, sha256: str = _NO_SHA256
) -> list[Destination]:
    """`sha256` is the image's, which only tags can depend on. Raises UnikernelBuildError for a placeholder or an alias that there is none of, and for a name that no
    registry takes.
    """
    context = await _context(field_set, docker, sha256)
    try:
        registries = list(docker.registries().get(*field_set.registries.value))
    except DockerRegistryError as error:
        raise UnikernelBuildError(
            f"{field_set.address}: the `{field_set.registries.alias}` field: {' '.join(str(error).split())}"
        ) from error
    return [_destination(field_set, docker, registry, context) for registry in registries]


def registry_address(alias_or_address: str, docker: DockerOptions, origin: str) -> str:
    """Raises UnikernelBuildError, which begins with `origin`, for an alias that there is none of."""
    try:
        (registry,) = docker.registries().get(alias_or_address)
    except DockerRegistryError as error:
        raise UnikernelBuildError(f"{origin}: {' '.join(str(error).split())}") from error
    return registry.address


def _destination(
    field_set: UnikernelImageFieldSet, docker: DockerOptions, registry: DockerRegistryOptions, context: InterpolationContext
) -> Destination:
    default = docker.default_repository
    context = context.merge({"default_repository": default, "target_repository": field_set.repository.value or default})
    if registry.repository:
        text, origin = registry.repository, f"[docker.registries.{registry.alias or registry.address}].repository"
    elif field_set.repository.value:
        text, origin = field_set.repository.value, f"{field_set.address}: the `{field_set.repository.alias}` field"
    else:
        text, origin = default, "[docker].default_repository"
    repository = f"{registry.address}/{_format(text, context, field_set, origin).lower()}"
    with errors_of(origin):
        Repository.parse(repository)
    tags = []
    origin = f"{field_set.address}: the `{field_set.image_tags.alias}` field"
    for template in (*field_set.image_tags.value, *registry.extra_image_tags):
        tag = _format(template, context, field_set, origin)
        with errors_of(origin):
            check_tags([tag + CONTAINER_SUFFIX])
        tags.append(tag)
    skipped = f"by `skip_push` of the registry {registry.alias or registry.address}" if registry.skip_push else ""
    return Destination(registry.address, repository, tuple(dict.fromkeys(tags)), skipped)


def _format(text: str, context: InterpolationContext, field_set: UnikernelImageFieldSet, origin: str) -> str:
    source = InterpolationContext.TextSource(address=field_set.address, target_alias="unikernel_image", field_alias="repository")
    try:
        return context.format(text, source=source)
    except (InterpolationError, ValueError, IndexError) as error:
        reason = str(error).rpartition("\n\n")[2]
        raise UnikernelBuildError(f"{origin} is {text!r}: {reason}") from error


async def _context(field_set: UnikernelImageFieldSet, docker: DockerOptions, sha256: str) -> InterpolationContext:
    arguments = KeyValueSequenceUtil.from_strings(*docker.build_args)
    variables = await engine.environment_variables(EnvironmentVarsRequest([text for text in arguments if "=" not in text]))
    address = field_set.address
    return InterpolationContext.from_dict(
        {
            "name": address.generated_name or address.target_name,
            "directory": os.path.basename(address.spec_path),
            "parent_directory": os.path.basename(os.path.dirname(address.spec_path)),
            "build_args": {**dict(text.split("=", 1) for text in arguments if "=" in text), **variables},
            "pants": {"hash": sha256},
        }
    )


def rules() -> Iterable[Rule | UnionRule]:
    return DockerOptions.rules()
