"""Library operating systems, as data: how an image of each is made and booted, and how it says how it ended.

One YAML file a library OS; adding one touches nothing else. See docs/library-os.md.
"""

from __future__ import annotations

import functools
import importlib.resources
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
        near = get_close_matches(name, library_os_names(), 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnikernelError(f"There is no library OS {name!r}; there are {', '.join(library_os_names())}.{hint}")
    # Imported where one is read: it brings a YAML parser along.
    from unikernel.library_os.reader import read_library_os

    file = name + _SUFFIX
    return read_library_os(importlib.resources.files(__name__).joinpath(file).read_text(), f"unikernel/library_os/{file}")


def library_os_of(manifest: Manifest) -> LibraryOs:
    """The one that an image is made with: its own description, if it has one in it."""
    if not manifest.library_os.description:
        return find_library_os(manifest.library_os.name)
    from unikernel.library_os.reader import read_library_os

    return read_library_os(manifest.library_os.description, f"the description of {manifest.library_os.name} in the image")
