from __future__ import annotations

import pytest

from pants_unikernel.util_rules.failures import message_of


@pytest.mark.parametrize(
    "stderr, message",
    [
        ("unikernel: memory: too small.", "memory: too small."),
        ("a warning\nunikernel: one.\nof two lines", "one.\nof two lines"),
        ("unikernel: a warning\nunikernel: the error", "the error"),
        ("Traceback (most recent call last):\nKeyError: 'x'", "Traceback (most recent call last):\nKeyError: 'x'"),
        ("", ""),
    ],
)
def test_message_of_the_toolkit_is_found(stderr: str, message: str) -> None:
    assert message_of(stderr) == message
