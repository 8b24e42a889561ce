"""The way teams use this: the two wheels in `[GLOBAL].plugins` of a repository that has nothing else of ours."""

from __future__ import annotations

import shutil
from pathlib import Path

from machine import boot
from pants_project import PantsProject, files_of
from unikernel.signing.development_key import public_part_path

CONFIGURATION = """\
[GLOBAL]
pants_version = "2.17.1"
plugins = ["pants-unikernel==0.1.0"]
backend_packages = ["pants_unikernel"]

[python-repos]
find_links = ["file://{wheels}"]

[cc]
c_executable = ["gcc"]

[anonymous-telemetry]
enabled = false
"""

BUILD = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
unikernel_image(name="unikernel", app=":program", memory="32M", network="none")
"""


def test_plugin_from_wheels_packages_and_runs_an_image_in_an_empty_repository(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for wheel in Path().glob("*.whl"):
        shutil.copy(wheel, wheels)
    assert len(list(wheels.iterdir())) == 2
    with PantsProject(tmp_path / "repository", configuration=CONFIGURATION.format(wheels=wheels), isolated=True) as project:
        project.write("BUILD", BUILD)
        project.write("main.c", '#include <stdio.h>\nint main(void) { puts("from wheels"); return 9; }\n')
        printed = project.succeed("package", "//:unikernel")
        assert "Wrote dist/unikernel.elf" in printed
        assert project.dist() == sorted(files_of("unikernel"))
        image, key = project.root / "dist/unikernel.elf", public_part_path(project.development_key)
        assert boot(image, key=key) == (9, "from wheels\nunikernel: exited with status 9\n")
        status, printed = project.run("run", "//:unikernel", "--", "--ignored")
        assert (status, "from wheels" in printed) == (9, True)
