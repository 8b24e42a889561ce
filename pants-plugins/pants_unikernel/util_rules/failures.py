"""Failures of the toolkit's steps as the one clear error that a user gets."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from pants.engine.process import FallibleProcessResult, Process

from pants_unikernel import engine
from unikernel.errors import UnikernelError

logger = logging.getLogger(__name__)

_PREFIX = "unikernel: "


class UnikernelBuildError(Exception):
    """An image cannot be built; the message names the target and says why and what to do."""


class MissingToolsError(UnikernelBuildError):
    """The host lacks programs that the library OS of an image needs. The message says how to get them."""


class StepError(UnikernelBuildError):
    """A process of the toolkit failed: whose problem that is, and the toolkit's own message."""

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(f"{origin}: {reason}")
        self.origin = origin
        self.reason = reason


@contextlib.contextmanager
def errors_of(origin: object) -> Iterator[None]:
    """What the toolkit refuses, as the error of a target, a field or an option."""
    try:
        yield
    except UnikernelError as error:
        raise UnikernelBuildError(f"{origin}: {error}") from error


async def run_step(process: Process, origin: str) -> FallibleProcessResult:
    """Runs a process of the toolkit. `origin` is whose problem a failure is: a target's address, or an option's name."""
    return (await run_steps([process], origin))[0]


async def run_steps(processes: Sequence[Process], origin: str) -> tuple[FallibleProcessResult, ...]:
    """Runs several at once."""
    results = await engine.run_fallible_processes(processes)
    for process, result in zip(processes, results):
        _check(process, result, origin)
    return results


def _check(process: Process, result: FallibleProcessResult, origin: str) -> None:
    stderr = result.stderr.decode(errors="replace").strip()
    if result.exit_code != 0:
        raise StepError(origin, message_of(stderr) or f"{process.description} failed without a word")
    for line in stderr.splitlines():
        # What else is said there is not the toolkit's: Pants starts remote processes with a script that complains of a cache's place.
        if line.startswith(_PREFIX):
            logger.warning(f"{origin}: {line[len(_PREFIX) :]}")
        else:
            logger.debug(f"{origin}: {line}")


def message_of(stderr: str) -> str:
    """The toolkit's own message, without its name; anything else (a crash) as it is."""
    start = stderr.rfind(f"\n{_PREFIX}")
    if stderr.startswith(_PREFIX) and start < 0:
        start = 0
    return stderr[start:].strip()[len(_PREFIX) :] if start >= 0 else stderr
