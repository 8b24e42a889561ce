"""What came of one expectation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Without a failure it holds. `seconds` is how long it took to find out."""

    name: str
    seconds: float
    failure: str = ""
