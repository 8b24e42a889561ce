"""Signs of a service, as they are found in one source file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# A larger source is generated or data: it is not read.
MAX_SOURCE_BYTES = 1 << 20


class Strength(Enum):
    """The weight of a sign: see `verdict`."""

    # The code opens a port, or hands a server something to serve.
    STARTS = "starts"
    # The code has an object that a server serves, such as a framework's application.
    DECLARES = "declares"
    # The code calls `run` or the like, with what a server is configured with: it starts what is
    # declared.
    RUNS = "runs"
    # The code reads a command line.
    COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Sign:
    """A sign of a service: `what` names the function, class or module.

    `only_as_main` tells that the code runs only in the module that Python starts (`if __name__ ==
    "__main__":`).
    """

    strength: Strength
    what: str
    only_as_main: bool = False


@dataclass(frozen=True)
class PlacedSign:
    """A sign with the path of its file."""

    sign: Sign
    path: str
    is_entry: bool = False

    def __str__(self) -> str:
        return f"{self.path} uses {self.sign.what}"


@dataclass(frozen=True)
class Verdict:
    """A decision on whether an application is a service, with the reason."""

    is_service: bool
    reason: str


def verdict(signs: tuple[PlacedSign, ...], *, has_server: bool = False) -> Verdict:
    """Weigh the signs of all sources of an application.

    `has_server` tells that it has a program that serves, such as gunicorn.

    A started server makes a service. So does a declared application, which something else may start
    (gunicorn, a framework's own command); but not where the module that starts reads a command line
    and nothing starts a server: that is a tool which shares a service's code.
    """
    by_strength: dict[Strength, list[PlacedSign]] = {}
    for placed in signs:
        by_strength.setdefault(placed.sign.strength, []).append(placed)
    starts, declares, runs = (by_strength.get(each, []) for each in (Strength.STARTS, Strength.DECLARES, Strength.RUNS))
    if starts:
        return Verdict(True, str(starts[0]))
    if not declares:
        return Verdict(False, "none of its sources starts a server or declares a web application")
    command_line = [placed for placed in by_strength.get(Strength.COMMAND_LINE, []) if placed.is_entry]
    if command_line and not runs and not has_server:
        return Verdict(False, f"it is a command-line tool: {command_line[0]}, and none of its sources starts a server")
    return Verdict(True, str(declares[0]))
