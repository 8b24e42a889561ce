"""The line that a goal prints which needs targets and was given none."""

from __future__ import annotations

from pants.util.docutil import bin_name


def usage(goal: str, all_of_them: str) -> str:
    """Return how `goal` is used; `all_of_them` says what it works on when all targets are named."""
    return f"Usage: {bin_name()} {goal} [OPTION...] TARGET... (such as ::, for {all_of_them}; for the options: {bin_name()} help {goal})"
