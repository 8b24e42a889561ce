from __future__ import annotations

from collections.abc import Callable

import pytest
from pants.build_graph.address import Address
from pants.engine.addresses import Addresses
from pants.engine.collection import Collection
from pants.engine.fs import CreateDigest, FileContent

from pants_unikernel.engine._collection_hash import tell_requests_apart


def _create_digest(text: str) -> CreateDigest:
    return CreateDigest([FileContent("a", text.encode())])


def _addresses(text: str) -> Addresses:
    return Addresses([Address("directory", target_name=text)])


_requests = pytest.mark.parametrize("request_for", [_create_digest, _addresses])


@_requests
def test_requests_are_told_apart_by_their_hash(request_for: Callable[[str], Collection[object]]) -> None:
    tell_requests_apart()
    assert len({hash(request_for(text)) for text in "123"}) == 3


@_requests
def test_equal_requests_have_one_hash(request_for: Callable[[str], Collection[object]]) -> None:
    tell_requests_apart()
    assert request_for("1") == request_for("1")
    assert hash(request_for("1")) == hash(request_for("1"))
