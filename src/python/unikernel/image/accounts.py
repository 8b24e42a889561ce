"""Who runs the application: a user by name or number, looked up in the image's own files, as Docker looks up a container's.

Formats: passwd(5), group(5). Docker: GetExecUser in github.com/moby/sys/user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unikernel.errors import UnikernelError
from unikernel.rootfs.merge import MergedRootfs, merged_rootfs

_PASSWD, _GROUP = "/etc/passwd", "/etc/group"
# The last number stands for none: setuid(2).
_LARGEST_ID = 2**32 - 2


@dataclass(frozen=True)
class Account:
    """Numbers of user and group, and the user's home."""

    uid: int
    gid: int
    home: str = "/"

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def find_account(user: str, archives: Sequence[Path]) -> Account:
    """The account of `user` ("1000", "1000:1000", "app", "app:staff"; root without one) in the root file system of these layers.

    Raises UnikernelError for a name that it does not have.
    """
    with merged_rootfs(archives) as rootfs:
        return account_of(user, _text(rootfs, _PASSWD), _text(rootfs, _GROUP))


def _text(rootfs: MergedRootfs, path: str) -> str:
    try:
        entry = rootfs.entries[rootfs.resolve(path)]
    except UnikernelError:
        return ""
    return entry.open().read().decode(errors="replace")


def account_of(user: str, passwd: str, group: str) -> Account:
    """By the text of both files. Of entries that are there twice, the first counts."""
    name, _, group_name = user.partition(":")
    uid = _number(name) if name else 0
    account = None
    for fields in _lines(passwd, 6):
        numbers = _number(fields[2]), _number(fields[3])
        if numbers[0] is None or numbers[1] is None:
            continue
        if numbers[0] == uid if uid is not None else fields[0] == name:
            account = Account(numbers[0], numbers[1], fields[5] or "/")
            break
    if account is None:
        if uid is None:
            raise UnikernelError(
                f'user: {user!r} names {name!r}, which is no user in the {_PASSWD} of the root file system: add it there, or write '
                'numbers, such as "1000:1000".'
            )
        account = Account(uid, 0)
    return account if not group_name else Account(account.uid, _group_number(user, group_name, group), account.home)


def _group_number(user: str, name: str, group: str) -> int:
    gid = _number(name)
    if gid is not None:
        return gid
    for fields in _lines(group, 3):
        gid = _number(fields[2])
        if fields[0] == name and gid is not None:
            return gid
    raise UnikernelError(
        f'user: {user!r} names {name!r}, which is no group in the {_GROUP} of the root file system: add it there, or write numbers, '
        'such as "1000:1000".'
    )


def _lines(text: str, fields: int) -> Iterator[list[str]]:
    """The fields of each line that has so many, at least."""
    for line in text.splitlines():
        words = line.split(":")
        if len(words) >= fields:
            yield words


def _number(text: str) -> int | None:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    return number if 0 <= number <= _LARGEST_ID else None
