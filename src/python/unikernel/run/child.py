"""Child processes that never outlive this one, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

_PR_SET_PDEATHSIG = 1
# Before a fork: a child of a process with threads must not load libraries.
_prctl = ctypes.CDLL(None).prctl


def start_child(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """`options` are subprocess.Popen's. The kernel kills the child when the thread that starts it ends (PR_SET_PDEATHSIG, prctl(2)).

    It has a session of its own: a Ctrl-C is for this process to pass on, or not.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # It ended in between.
            os._exit(1)

    return subprocess.Popen(argv, preexec_fn=die_with_parent, start_new_session=True, **options)
