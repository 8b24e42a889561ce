"""What is in an image, as SPDX and CycloneDX documents: made of what its parts say of themselves, by a cached process."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pants.engine.fs import Digest, FileContent, FileEntry
from pants.engine.process import Process

from pants_unikernel import engine
from pants_unikernel.subsystems.toolkit import Toolkit, toolkit_process
from pants_unikernel.util_rules.linux_kit import INIT, KIT
from unikernel import __version__
from unikernel.image.components import linux_components, listed_components
from unikernel.linux.pid1 import INIT_PATH
from unikernel.rootfs.layer import LayerIndex
from unikernel.sbom.inventory import Inventory
from unikernel.signing.files import sbom_path

_INVENTORY = "inventory.json"


async def sbom_process(
    name: str, image: str, indexes: Sequence[LayerIndex], kit: Digest, init: Digest, time_zones: bool, toolkit: Toolkit
) -> Process:
    """A process that writes the documents beside where the image will be. It does not need the image itself."""
    facts = json.loads(await engine.file_content(kit, f"{KIT}/kit.json"))
    entries = await engine.digest_entries(init)
    pid1 = next(entry for entry in entries if isinstance(entry, FileEntry) and entry.path == INIT)
    components = [
        *listed_components(indexes),
        *linux_components(facts["version"], facts["source_sha256"], __version__, pid1.file_digest.fingerprint, INIT_PATH),
    ]
    inventory = FileContent(_INVENTORY, Inventory(name, components, __version__).to_json().encode())
    spdx, cyclonedx = sbom_path(image, "spdx"), sbom_path(image, "cdx")
    return await toolkit_process(
        toolkit,
        [
            f"--inventory={_INVENTORY}",
            f"--spdx={spdx}",
            f"--cyclonedx={cyclonedx}",
            *(["--certificates"] if any(index.tls for index in indexes) else []),
            *(["--time-zones"] if time_zones else []),
        ],
        description=f"List the components of {name}",
        input_digest=await engine.create_digest([inventory]),
        output_files=[spdx, cyclonedx],
        module="unikernel.sbom",
    )
