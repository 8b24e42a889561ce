"""The fixtures that the tests on a bare Debian share, in this order: the machine, what it takes to package, and the first images.

Debian 12 by default, which CI runs; UNIKERNEL_TEST_DEBIAN names others, such as "bookworm trixie sid".
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bare_debian.chroot import DebianChroot
from bare_debian.newcomer import Newcomer, readme_command

# pytest knows a fixture's parameter again by its identity.
_RELEASES = [sys.intern(name) for name in os.environ.get("UNIKERNEL_TEST_DEBIAN", "bookworm").split()]


@pytest.fixture(scope="session", params=_RELEASES)
def arrived(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """A bare Debian with a clone of this repository in the HOME of an ordinary user."""
    root = tmp_path_factory.mktemp(request.param) / "root"
    yield Newcomer.arrive(DebianChroot(root, request.param))
    shutil.rmtree(root)


@pytest.fixture(scope="session")
def newcomer(arrived: Newcomer) -> Newcomer:
    """The user after `./bootstrap` said what to install, and somebody with rights did."""
    [line] = arrived.fail("./bootstrap").splitlines()
    command = re.search(r"`sudo (apt-get install [^`]*)`", line)
    assert command is not None, line
    # Packaging needs none of these.
    assert not re.search("docker|skopeo|gdb|riscv|picolibc|qemu", command[1])
    arrived.debian.succeed(f"apt-get update && DEBIAN_FRONTEND=noninteractive {command[1]}")
    return arrived


@pytest.fixture(scope="session")
def packaged(newcomer: Newcomer) -> str:
    """Return what the README's first command printed."""
    return newcomer.succeed(readme_command())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the pipelines come last: they install what the first image does not take, and write in the newcomer's caches."""
    items.sort(key=lambda item: "ci_recipes" in item.nodeid)
