"""From a `unikernel_image` target to its image, by the method that its library OS's description names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from pants.engine.fs import Digest, FileContent

from pants_unikernel import engine
from pants_unikernel.image_types import (
    BuiltImage,
    DebugInputs,
    EmbeddedImageRequest,
    LinkedImageRequest,
    PackedImageRequest,
    TestsInImage,
    UnikernelImageFieldSet,
)
from pants_unikernel.target_types import default_hostname, network_of
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_library_os
from unikernel.image.spec import ImageSpec
from unikernel.library_os.description import Embed, Link
from unikernel.oci.layout import Descriptor, only_image
from unikernel.signing.provenance import Artifact


async def build_image(
    field_set: UnikernelImageFieldSet, library_oses: LibraryOsTargets, tests: TestsInImage | None = None
) -> BuiltImage:
    """With `tests`, the image has them beside its application, and starts them; it is no image to be shipped, and has no SBOM."""
    method = (await describe_library_os(field_set, library_oses)).description.build
    if isinstance(method, Link):
        # Made of sources in C: there are no tests for it.
        return await engine.build_linked_image(LinkedImageRequest(field_set))
    if isinstance(method, Embed):
        return await engine.build_embedded_image(EmbeddedImageRequest(field_set, tests))
    return await engine.build_packed_image(PackedImageRequest(field_set, tests))


async def built_image(
    path: str, digests: Iterable[Digest], inputs: Iterable[Artifact], debug: DebugInputs | None = None
) -> BuiltImage:
    """The image at `path` in one of the digests, with all that is in the others beside it."""
    digest = await engine.merge_digests(digests)
    image = await engine.file_digest(digest, path)
    return BuiltImage(digest, path, image.serialized_bytes_length, image.fingerprint, tuple(inputs), debug)


async def image_of_layout(digest: Digest, path: str) -> Descriptor:
    """Of an OCI layout with one image."""
    return only_image(await engine.file_content(digest, f"{path}/index.json"))


def image_spec(field_set: UnikernelImageFieldSet, tests: TestsInImage | None = None) -> ImageSpec:
    """The target's fields as the link step takes them. The application's arguments are none of its tests'."""
    name = field_set.address.generated_name or field_set.address.target_name
    network = network_of(field_set.network, field_set.ip_address, field_set.gateway, field_set.nameservers, field_set.hostname)
    spec = ImageSpec(
        name=name,
        target=field_set.address.spec,
        library_os=field_set.library_os.value,
        memory=field_set.memory.bytes,
        cpus=field_set.cpus.value,
        network=dataclasses.replace(network, hostname=network.hostname or default_hostname(name)),
        ports=field_set.ports.ports,
        arguments=tuple(field_set.args.value or ()),
        environment=dict(field_set.env.value or {}),
        working_directory=field_set.working_directory.value,
        user=field_set.user.value or "",
        timezone=field_set.timezone.value,
        kernel_parameters=tuple(field_set.kernel_parameters.value or ()),
    )
    if tests is None:
        return spec
    environment = {**spec.environment, **tests.environment}
    return dataclasses.replace(spec, memory=tests.memory or spec.memory, arguments=(), environment=environment)


def spec_file(spec: ImageSpec) -> FileContent:
    """It as an input of a process."""
    return FileContent("image-spec.json", spec.to_json().encode())
