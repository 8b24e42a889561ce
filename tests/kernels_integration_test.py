"""Images with the kernel of each series that this project supports.

The kernels are compiled once, on your Pants caches. A source that this machine lacks is taken out of Debian's package.
"""

from __future__ import annotations

import re
from pathlib import Path

from machine import boot
from pants_project import PantsProject, completed_processes
from unikernel.signing.development_key import public_part_path
from unikernel.testing.kernel_sources import RELEASES, kernel_source

_BUILD = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
unikernel_image(name="unikernel", app=":program", network="none")
"""
_PROGRAM = """\
#include <stdio.h>
#include <sys/utsname.h>

int main(void)
{
    struct utsname name;
    return uname(&name) != 0 || printf("Hello from Linux %s.\\n", name.release) < 0;
}
"""
# Gaps around the code that enters the kernel, up to 2 MiB each, once made images with one series twice as large.
_MOST = 1.25
_UNFORESEEN = 0.02
_COUNT = re.compile(r"\[INFO\] Linux \S+: compiled ([\d,]+) of ([\d,]+) files")
_COMPILED = "Compile the Linux kernel into a linkable kit"


def test_images_of_all_series_boot_and_are_of_one_size(tmp_path: Path) -> None:
    sizes = {}
    for series in RELEASES:
        with PantsProject(tmp_path / series) as project:
            project.write("app/BUILD", _BUILD)
            project.write("app/main.c", _PROGRAM)
            printed = project.succeed(f"--unikernel-linux-source=['{kernel_source(series)}']", "package", "app:unikernel")
        _check_progress(printed)
        image = project.root / "dist/app/unikernel.elf"
        sizes[series] = image.stat().st_size
        status, console = boot(image, key=public_part_path(project.development_key))
        assert (status, re.findall(r"Hello from Linux (\d+\.\d+)\.", console)) == (0, [series]), console
    assert max(sizes.values()) <= _MOST * min(sizes.values()), sizes


def _check_progress(printed: str) -> None:
    """All files are counted where a kernel is compiled, and none where it comes from a cache."""
    counts = [(int(done.replace(",", "")), int(total.replace(",", ""))) for done, total in _COUNT.findall(printed)]
    compiled = any(process.startswith(_COMPILED) for process in completed_processes(printed))
    assert bool(counts) == compiled == ("once per configuration" in printed), printed
    if compiled:
        assert counts == sorted(counts) and counts[-1][0] == counts[-1][1] > 500
        # The first total is a dry run's, which does not see a few files that the build makes: they are added when they come.
        assert counts[-1][1] - counts[0][1] <= _UNFORESEEN * counts[-1][1]
