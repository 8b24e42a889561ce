"""Library operating systems, as data: how an image of each is made and booted, and how it says how it ended.

One YAML file a library OS; adding one touches nothing else. See docs/library-os.md.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from unikernel.errors import UnikernelError
from unikernel.library_os.description import LibraryOs

if TYPE_CHECKING:
    from unikernel.image.manifest_pb2 import Manifest

_SUFFIX = ".yaml"


@functools.cache
def library_os_names() -> tuple[str, ...]:
    files = importlib.resources.files(__name__).iterdir()
    return tuple(sorted(file.name[: -len(_SUFFIX)] for file in files if file.name.endswith(_SUFFIX)))


@functools.cache
def find_library_os(name: str) -> LibraryOs:
    """Raises UnikernelError, with the nearest name, for one that has no description here."""
    if name not in library_os_names():
        raise unknown_library_os(name, library_os_names())
    file = name + _SUFFIX
    return _read(importlib.resources.files(__name__).joinpath(file).read_text(), f"unikernel/library_os/{file}")


def unknown_library_os(name: str, known: Sequence[str]) -> UnikernelError:
    near = get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnikernelError(f"There is no library OS {name!r}; there are {', '.join(known)}.{hint}")


def described_library_os(name: str, text: str, label: str) -> LibraryOs:
    """What `text` describes, or without one what comes along by that name. `label` is where the text is from. Raises UnikernelError."""
    return _read(text, label) if text else find_library_os(name)


# Many images of a repository have one description, and YAML is slow to parse.
@functools.lru_cache(maxsize=64)
def _read(text: str, label: str) -> LibraryOs:
    # Imported where one is read: it brings a YAML parser along.
    from unikernel.library_os.reader import read_library_os

    return read_library_os(text, label)


def library_os_of(manifest: Manifest) -> LibraryOs:
    """The one that an image is made with: its own description, if it has one in it."""
    name = manifest.library_os.name
    return described_library_os(name, manifest.library_os.description, f"the description of {name} in the image")
