"""What is in an image, as SPDX and CycloneDX documents: made of what its parts say of themselves, by a cached process."""

from __future__ import annotations

from collections.abc import Iterable

from pants.engine.fs import FileContent
from pants.engine.process import Process

from pants_unikernel import engine
from pants_unikernel.image_types import Toolkit
from pants_unikernel.subsystems.toolkit import toolkit_process
from unikernel.rootfs.layer import LayerIndex
from unikernel.sbom.inventory import Inventory
from unikernel.signing.files import sbom_path

_INVENTORY = "inventory.json"


async def sbom_process(
    inventory: Inventory, image: str, toolkit: Toolkit, layers: Iterable[LayerIndex] = (), *, time_zones: bool = False
) -> Process:
    """A process that writes the documents beside where the image will be. It does not need the image itself."""
    certificates = any(layer.tls for layer in layers)
    spdx, cyclonedx = sbom_path(image, "spdx"), sbom_path(image, "cdx")
    return await toolkit_process(
        toolkit,
        [
            f"--inventory={_INVENTORY}",
            f"--spdx={spdx}",
            f"--cyclonedx={cyclonedx}",
            *(["--certificates"] if certificates else []),
            *(["--time-zones"] if time_zones else []),
        ],
        description=f"List the components of {inventory.name}",
        input_digests=[await engine.create_digest([FileContent(_INVENTORY, inventory.to_json().encode())])],
        output_files=[spdx, cyclonedx],
        module="unikernel.sbom",
    )
