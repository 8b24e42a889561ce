"""`publish` for `unikernel_image`: pushes what was packaged to registries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pants.backend.docker.subsystems.docker_options import DockerOptions
from pants.core.goals.package import BuiltPackage
from pants.core.goals.publish import (
    PublishFieldSet,
    PublishOutputData,
    PublishPackages,
    PublishProcesses,
    PublishRequest,
)
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.process import InteractiveProcess, Process
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.goals.package_image import BuiltOciLayout, BuiltUnikernelImage, SkippedImage, image_of, layouts_of
from pants_unikernel.image_types import Toolkit, UnikernelImageFieldSet
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.target_types import UnikernelImageFormatsField, UnikernelImageSkipPushField
from pants_unikernel.util_rules.destinations import CONTAINER_SUFFIX, KRAFTKIT_SUFFIX, Destination, find_destinations
from pants_unikernel.util_rules.lookup import find_program

# Where registries' credentials are, and what reaching one takes.
_ENVIRONMENT = (
    *("DOCKER_CONFIG", "HOME", "PATH", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"),
    *("SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
)


# By format, to the tags that the target declares.
_SUFFIXES = {"oci": "", "container": CONTAINER_SUFFIX, "kraftkit": KRAFTKIT_SUFFIX}


class PublishUnikernelImageRequest(PublishRequest[Any]):
    pass


@dataclass(frozen=True)
class PublishUnikernelImageFieldSet(PublishFieldSet[Any]):
    publish_request_type = PublishUnikernelImageRequest
    required_fields = (UnikernelImageFormatsField, UnikernelImageSkipPushField)

    skip_push: UnikernelImageSkipPushField

    def get_output_data(self) -> PublishOutputData:
        return PublishOutputData({"publisher": "unikernel", **super().get_output_data()})


@dataclass(frozen=True)
class _Push:
    """One layout to one repository."""

    layout: BuiltOciLayout
    destination: Destination

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(tag + _SUFFIXES[self.layout.format] for tag in self.destination.tags)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.destination.repository}:{tag}" for tag in self.tags)

    @property
    def data(self) -> PublishOutputData:
        """For deployment tools: `--publish-output`."""
        assert self.layout.image is not None
        digest = self.layout.image.digest
        return PublishOutputData(
            {
                "format": self.layout.format,
                "image": f"{self.destination.repository}@{digest}",
                "repository": self.destination.repository,
                "digest": digest,
                "tags": self.tags,
            }
        )


async def _push_process(
    push: _Push, package: BuiltPackage, skopeo: str, environment: Mapping[str, str], toolkit: Toolkit
) -> Process:
    layout, signatures = push.layout.path, push.layout.signatures
    directories = [layout, *([signatures] if signatures else [])]
    return await toolkit_process(
        toolkit,
        [
            "publish",
            f"--layout={layout}",
            *([f"--signatures={signatures}"] if signatures else []),
            f"--to={push.destination.repository}",
            *(f"--tag={tag}" for tag in push.tags),
            f"--skopeo={skopeo}",
        ],
        description=f"Push {layout} to {push.destination.repository}",
        input_digests=[await engine.part_of(package.digest, [f"{directory}/**" for directory in directories])],
        env=environment,
    )


@rule(desc="Push a unikernel image to registries", level=LogLevel.DEBUG)
async def push_unikernel_image(request: PublishUnikernelImageRequest, docker: DockerOptions, toolkit: Toolkit) -> PublishProcesses:
    target = await engine.find_target(request.field_set.address)
    field_set = UnikernelImageFieldSet.create(target)
    (package,) = (
        package
        for package in request.packages
        if any(isinstance(item, (BuiltUnikernelImage, SkippedImage)) for item in package.artifacts)
    )
    image, layouts = image_of(package), layouts_of(package)
    origin = str(field_set.address)
    if not layouts:
        reason = f"(its `{field_set.formats.alias}` have neither oci nor container)"
        return PublishProcesses([PublishPackages((origin,), description=reason)])
    pushes = [_Push(layout, found) for found in await find_destinations(field_set, docker, image.sha256) for layout in layouts]
    if not pushes:
        reason = f"(no registry: neither its `{field_set.registries.alias}` nor [docker.registries] name one)"
        return PublishProcesses([PublishPackages((origin,), description=reason)])
    if request.field_set.skip_push.value:
        reason = f"(by `{request.field_set.skip_push.alias}` on {origin})"
        return PublishProcesses([PublishPackages(push.names, description=reason, data=push.data) for push in pushes])
    environment = await engine.environment_variables(EnvironmentVarsRequest(_ENVIRONMENT))
    what = "skopeo, which pushes images to registries,"
    skopeo = await find_program("skopeo", environment, what, "install it, such as with apt-get install skopeo")
    published = []
    for push in pushes:
        if push.destination.skipped:
            published.append(PublishPackages(push.names, description=f"({push.destination.skipped})", data=push.data))
            continue
        process = InteractiveProcess.from_process(await _push_process(push, package, skopeo, environment, toolkit))
        published.append(PublishPackages(push.names, process, data=push.data))
    return PublishProcesses(published)


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *PublishUnikernelImageFieldSet.rules())
