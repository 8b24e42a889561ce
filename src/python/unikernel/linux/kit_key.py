"""The cache key of a prebuilt kit: see docs/kit.md.

A machine with neither a compiler nor a kernel source computes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from unikernel.errors import UnikernelError
from unikernel.linux.configuration import parse_option
from unikernel.linux.kit import KitFacts
from unikernel.package_sources import package_sources
from unikernel.signing.documents import serialize

# The toolkit files that each step is made of: an edit anywhere else compiles no kernel.
BASIC_SOURCES = (
    *("__init__.py", "digests.py", "errors.py", "scratch.py"),
    *("linux/__init__.py", "linux/__main__.py", "linux/source.py", "linux/steps.py"),
)
CONFIGURE_SOURCES = (
    *BASIC_SOURCES,
    *("linux/configuration.py", "linux/kconfig.py", "linux/marker.py", "linux/kernel/*.config"),
)
KIT_SOURCES = (*BASIC_SOURCES, "linux/kit.py", "linux/marker.py", "linux/kernel/*.c", "progress.py")
INIT_SOURCES = (*BASIC_SOURCES, "linux/pid1.py", "linux/init/*")


@dataclass(frozen=True)
class KeyIngredients:
    """What decides the contents of a kit.

    `kernel_options` are in normal form; `sources` are SHA-256 digests, in hex, of toolkit files by
    their path in the package.
    """

    layout: int
    kernel_options: tuple[str, ...]
    sources: dict[str, str]

    @property
    def key(self) -> str:
        """The SHA-256, in hex, of the ingredients as canonical JSON."""
        return hashlib.sha256(serialize(asdict(self))).hexdigest()


def normal_options(options: Iterable[str]) -> tuple[str, ...]:
    """Return kernel options in normal form: their order and repetition do not matter, the last one
    of a symbol counts.

    Raises UnikernelError for an option that cannot be parsed.
    """
    try:
        return tuple(f"{symbol}={value}" for symbol, value in sorted(dict(map(parse_option, options)).items()))
    except ValueError as error:
        raise UnikernelError(f"A kernel option cannot be used: {error}.") from error


def key_ingredients(options: Iterable[str]) -> KeyIngredients:
    """Return the ingredients of the kit that this toolkit compiles with some kernel options.

    Raises UnikernelError for an installation without one of the sources: it would have keys of its
    own.
    """
    sources = package_sources(*dict.fromkeys((*CONFIGURE_SOURCES, *KIT_SOURCES, *INIT_SOURCES)))
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in sources.items()}
    return KeyIngredients(KitFacts.layout, normal_options(options), dict(sorted(digests.items())))
