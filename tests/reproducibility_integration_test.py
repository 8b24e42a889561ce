"""Two checkouts at different paths, with caches of their own, give the same images; and a build that was killed does not matter."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from pants_project import PantsProject
from sample_services import make_services_project

GOALS = ("src/services/arguments::", "src/services/greeter::")
COMPILING = "Starting: Compile the Linux kernel"


def images(project: PantsProject) -> dict[str, str]:
    return {
        path: hashlib.sha256((project.root / "dist" / path).read_bytes()).hexdigest()
        for path in project.dist()
        if path.endswith(".elf")
    }


def kill_while_compiling(project: PantsProject) -> None:
    process = project.start("--no-pantsd", "package", *GOALS)
    assert process.stdout is not None
    for line in process.stdout:
        if COMPILING in line:
            break
    else:
        raise AssertionError("the kernel was not compiled")
    # Some way into it: the source is unpacked by then.
    time.sleep(30)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_same_images_from_another_path_and_empty_caches_after_a_killed_build(tmp_path: Path) -> None:
    with make_services_project(tmp_path / "one") as first, make_services_project(
        tmp_path / "a/longer/path", tmp_path / "cache"
    ) as second:
        first.succeed("package", *GOALS)
        kill_while_compiling(second)
        assert not second.dist()
        printed = second.succeed("--no-pantsd", "package", *GOALS)
        assert COMPILING in printed
        assert len(images(first)) == len(GOALS)
        assert images(first) == images(second)
