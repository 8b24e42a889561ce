"""Library operating systems, as data: how an image of each is booted and how it says how it ended.

One module a library OS, each with one `LIBRARY_OS`; adding one touches nothing else.
"""

from __future__ import annotations

import importlib
import pkgutil

from unikernel.errors import UnikernelError
from unikernel.library_os.description import LibraryOs


def library_os_names() -> tuple[str, ...]:
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in modules if name != "description" and not name.endswith("_test")))


def find_library_os(name: str) -> LibraryOs:
    """Raises UnikernelError for a name that no module here has."""
    if name not in library_os_names():
        raise UnikernelError(f"There is no library OS {name!r}; there are {', '.join(library_os_names())}.")
    return importlib.import_module(f"unikernel.library_os.{name}").LIBRARY_OS
