"""The line that ends `pants package`: how many images, where, signed by whom, and what to do next.

The goal itself logs an entry per artifact and ends; Pants has no hook after it. The goal's result is made
right after those entries, in all versions of Pants, so its constructor logs the line.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from pants.core.goals.package import Package
from pants.util.docutil import bin_name

from pants_unikernel.dist_files import DistImage, DistPackage

logger = logging.getLogger(__name__)

# Summaries of what this run has written and not reported yet.
_pending: list[str] = []


def end_with_a_summary() -> None:
    """Log the pending summaries whenever the goal `package` ends, from now on, in this process."""
    initialize = Package.__init__

    def __init__(self: Package, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        while _pending:
            logger.info(_pending.pop())

    Package.__init__ = __init__  # type: ignore[method-assign,assignment]


def summarize(packages: Iterable[DistPackage], directory: str) -> None:
    """Prepare the line about the images among what was written to `directory`, if there are any."""
    images = {package.target: package.image for package in packages if package.image is not None}
    _pending[:] = [_summary(images, directory)] if images else []


def _summary(images: dict[str, DistImage], directory: str) -> str:
    count = "1 image is" if len(images) == 1 else f"{len(images):,} images are"
    signers = sorted({image.signer for image in images.values()})
    signed = " and ".join(f"signed by {signer}" if signer else "unsigned" for signer in signers)
    # A server shows that it works by itself; any other image may be one that ends at once.
    target = min(images, key=lambda address: (not images[address].is_server, address))
    return f"{count} in {directory}/, {signed}. Next: {bin_name()} run {target} (boots it), {bin_name()} unikernel-verify ::"
