from __future__ import annotations

import base64
import sys
import time
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.signing.keys import Message
from unikernel.signing.signer import CommandSigner
from unikernel.testing.signing import make_key

_MESSAGE = Message.of(b"message")


def _command(directory: Path, body: str) -> list[str]:
    """A signing command in Python; `body` finds the digest that it was given in `digest`."""
    script = directory / "signer.py"
    script.write_text(f"import sys, time, subprocess\ndigest = sys.stdin.read()\n{body}\n")
    return [sys.executable, str(script)]


def test_a_command_is_given_the_digest_and_prints_the_signature(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    printed = base64.encodebytes(key.sign(_MESSAGE)).decode()
    body = f"assert digest == {_MESSAGE.sha256.hex() + chr(10)!r}, digest\nprint({printed!r})"
    signature = CommandSigner(_command(tmp_path, body), key.public).sign(_MESSAGE)
    assert key.public.verifies(signature, _MESSAGE)


def test_a_signature_by_another_key_is_refused(tmp_path: Path) -> None:
    other = make_key(tmp_path, name="other.pem")
    body = f"print({base64.b64encode(other.sign(_MESSAGE)).decode()!r})"
    with pytest.raises(UnikernelError, match="no signature by the key that it is configured with"):
        CommandSigner(_command(tmp_path, body), make_key(tmp_path).public).sign(_MESSAGE)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("print('no signature, sorry')", "something else than a signature"),
        ("print('A' * 4)", "no signature by the key"),
        ("print('A' * 1000000)", "something else than a signature"),
        ("pass", "no signature by the key"),
        ("sys.exit('no session with the module')", "status 1: no session with the module"),
        ("sys.exit(3)", r"status 3\."),
    ],
)
def test_a_command_that_fails_or_prints_garbage(tmp_path: Path, body: str, expected: str) -> None:
    with pytest.raises(UnikernelError, match=expected):
        CommandSigner(_command(tmp_path, body), make_key(tmp_path).public).sign(_MESSAGE)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "still-there"
    child = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
    body = f"subprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    signer = CommandSigner(_command(tmp_path, body), make_key(tmp_path).public, patience=1)
    with pytest.raises(UnikernelError, match="did not answer within 1 s"):
        signer.sign(_MESSAGE)
    time.sleep(2.5)
    assert not mark.exists()


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="/nowhere/signer --flag cannot be run: No such file"):
        CommandSigner(["/nowhere/signer", "--flag"], make_key(tmp_path).public).sign(_MESSAGE)


def test_a_command_has_no_use_for_a_key_that_needs_the_whole_message(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="which an Ed25519 key cannot sign"):
        CommandSigner(["signer"], make_key(tmp_path, "ed25519").public)
