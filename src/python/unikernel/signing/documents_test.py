from __future__ import annotations

import pytest

from unikernel.errors import UnikernelError
from unikernel.signing.documents import decode_base64, parse, parse_line, serialize


def test_what_is_written_is_read_and_the_same_bytes() -> None:
    assert serialize({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'.encode()
    assert parse(serialize({"a": {"b": 1}}), "it") == {"a": {"b": 1}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"1",
        b'{"a":1}{"a":1}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b"[" * 100000,
        b'{"a":' * 100000,
        b'{"a":' + b"1" * 5000 + b"0" * 100000 + b"}x",
    ],
)
def test_what_is_not_one_object_is_refused(content: bytes) -> None:
    with pytest.raises(UnikernelError, match="the document"):
        parse(content, "the document")


@pytest.mark.parametrize(
    "content", [b'{"a":1}', b'{"a":1}\n\n', b'{"a": 1}\n', b'{"b":1,"a":1}\n', b'{"a":"\\u00fc"}\n', b'{"a":1.0e0}\n']
)
def test_a_line_has_one_form(content: bytes) -> None:
    assert parse_line(b'{"a":1}\n', "the document") == {"a": 1}
    with pytest.raises(UnikernelError, match="the document is not as it was written"):
        parse_line(content, "the document")


def test_what_is_too_large_is_not_parsed() -> None:
    with pytest.raises(UnikernelError, match="larger than 64 MiB"):
        parse(b" " * ((64 << 20) + 1), "the document")


@pytest.mark.parametrize("text", ["QQ", "QQ==\n", "QR==", "Q Q==", "-_==", 1, None, "é"])
def test_base64_has_one_form(text: object) -> None:
    assert decode_base64("QQ==", "it") == b"A"
    with pytest.raises(UnikernelError, match="it is not in base64"):
        decode_base64(text, "it")
