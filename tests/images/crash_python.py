"""Crashes in an extension."""

from __future__ import annotations

import ctypes


def read_nowhere() -> None:
    ctypes.string_at(0)


if __name__ == "__main__":
    print("about to crash")
    read_nowhere()
