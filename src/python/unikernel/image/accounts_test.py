from __future__ import annotations

from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.accounts import Account, account_of, find_account
from unikernel.rootfs.layer import Layer, LayerIndex

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:one:2:::
app:x:1000:1001:An application:/home/app:/bin/false
app:x:1002:1002::/other:
42:x:7:7::/seven:
homeless:x:8:8:::
"""
_GROUP = "root:x:0:\nstaff:x:50:app\nbroken:x:many:\n42:x:77:\n"


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("", Account(0, 0, "/root")),
        ("root", Account(0, 0, "/root")),
        ("app", Account(1000, 1001, "/home/app")),
        ("app:staff", Account(1000, 50, "/home/app")),
        ("app:7", Account(1000, 7, "/home/app")),
        ("app:", Account(1000, 1001, "/home/app")),
        ("1000", Account(1000, 1001, "/home/app")),
        ("1000:0", Account(1000, 0, "/home/app")),
        # Without an entry, the group is root's.
        ("12345", Account(12345, 0, "/")),
        ("12345:678", Account(12345, 678, "/")),
        ("4294967294", Account(4294967294, 0, "/")),
        # What is a number is one, whatever somebody is called.
        ("42", Account(42, 0, "/")),
        ("42:42", Account(42, 42, "/")),
        ("homeless", Account(8, 8, "/")),
        (":staff", Account(0, 50, "/root")),
    ],
)
def test_users(user: str, account: Account) -> None:
    assert account_of(user, _PASSWD, _GROUP) == account


@pytest.mark.parametrize(
    ("user", "part"),
    [
        ("nobody", "'nobody' names 'nobody', which is no user in the /etc/passwd"),
        ("broken", "names 'broken', which is no user"),
        ("-1", "names '-1', which is no user"),
        ("4294967295", "names '4294967295', which is no user"),
        ("9" * 5000, "which is no user"),
        ("٣", "which is no user"),
        ("app:wheel", "'app:wheel' names 'wheel', which is no group in the /etc/group"),
        ("app:broken", "names 'broken', which is no group"),
        ("1000:-1", "names '-1', which is no group"),
    ],
)
def test_unknown_users_are_named(user: str, part: str) -> None:
    with pytest.raises(UnikernelError, match=part):
        account_of(user, _PASSWD, _GROUP)


def _layer(tmp_path: Path, name: str, files: dict[str, bytes]) -> Path:
    layer = Layer(name)
    for path, content in files.items():
        layer.add_bytes(path, content)
    layer.write(tmp_path / f"{name}.cpio", LayerIndex(name, []))
    return tmp_path / f"{name}.cpio"


def test_the_last_layer_that_has_the_files_counts(tmp_path: Path) -> None:
    base = _layer(tmp_path, "base", {"/etc/passwd": b"app:x:1:1::/one:", "/etc/group": b"staff:x:9:"})
    above = Layer("above")
    above.add_symlink("/etc/passwd", "../run/passwd")
    above.add_bytes("/run/passwd", b"\xff\xfe\napp:x:2:3::/two:\n")
    above.write(tmp_path / "above.cpio", LayerIndex("above", []))
    assert find_account("app:staff", [base, tmp_path / "above.cpio"]) == Account(2, 9, "/two")
    assert find_account("5", [_layer(tmp_path, "empty", {"/a": b""})]) == Account(5, 0, "/")
