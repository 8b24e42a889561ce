"""The step of a build that writes what is in an image as SPDX and CycloneDX documents."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unikernel.sbom.cyclonedx import to_cyclonedx
from unikernel.sbom.inventory import Inventory
from unikernel.sbom.python_distribution import installed_distribution
from unikernel.sbom.spdx import to_spdx


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="unikernel.sbom", description=__doc__)
    parser.add_argument("--inventory", type=Path, required=True, help="the components, in JSON")
    parser.add_argument("--certificates", action="store_true", help="list the certificates that this toolkit lays out")
    parser.add_argument("--time-zones", action="store_true", help="list the time zones that this toolkit lays out")
    parser.add_argument("--spdx", type=Path, required=True)
    parser.add_argument("--cyclonedx", type=Path, required=True)
    arguments = parser.parse_args(argv)

    inventory = Inventory.from_json(arguments.inventory.read_text())
    data = [("certifi", arguments.certificates), ("tzdata", arguments.time_zones)]
    own = [installed_distribution(name) for name, is_used in data if is_used]
    inventory = replace(inventory, components=[*inventory.components, *own])
    for path, document in ((arguments.spdx, to_spdx(inventory)), (arguments.cyclonedx, to_cyclonedx(inventory))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
