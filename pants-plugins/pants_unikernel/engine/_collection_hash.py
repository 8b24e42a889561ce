"""All collections of Pants 2.17 have one hash (https://github.com/pantsbuild/pants/issues/18250): the engine, which looks up each request by its hash,
compares each `CreateDigest` and each `Addresses` of a run with all others, which are millions of comparisons with a thousand images.
"""

from __future__ import annotations

from pants.engine.addresses import Addresses
from pants.engine.collection import Collection
from pants.engine.fs import CreateDigest

_ASKED_WITH = (Addresses, CreateDigest)


def tell_requests_apart() -> None:
    """Gives each the hash of what is in it, as later versions of Pants do; nothing is done where that is so. Other collections stay as they
    are: some hold what has no hash.
    """
    if hash(Collection(["one"])) == hash(Collection(["another"])):
        for collection in _ASKED_WITH:
            collection.__hash__ = tuple.__hash__  # type: ignore[assignment,method-assign]
