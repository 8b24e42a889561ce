"""Scratch directories of a build's steps."""

from __future__ import annotations

import os
import tempfile


def scratch_directory() -> tempfile.TemporaryDirectory[str]:
    """Beside the outputs, not in /tmp: a build system's sandbox is what is measured, limited and cleaned."""
    return tempfile.TemporaryDirectory(prefix=".unikernel-", dir=os.getcwd())
