from pants.engine.fs import CreateDigest, FileContent

from pants_unikernel.engine._create_digest_hash import tell_create_digests_apart


def _request(content: bytes) -> CreateDigest:
    return CreateDigest([FileContent("a", content)])


def test_requests_are_told_apart_by_their_hash() -> None:
    tell_create_digests_apart()
    assert len({hash(_request(content)) for content in (b"1", b"2", b"3")}) == 3


def test_equal_requests_have_one_hash() -> None:
    tell_create_digests_apart()
    assert _request(b"1") == _request(b"1")
    assert hash(_request(b"1")) == hash(_request(b"1"))
