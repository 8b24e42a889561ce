"""The way teams use this: the two wheels in `[GLOBAL].plugins` of a repository that has nothing else of ours, and the command by itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from glob import glob
from pathlib import Path

import pytest

from machine import boot
from pants_project import PantsProject, files_of
from pants_unikernel.subsystems.toolkit import UnikernelToolkit
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


_TOOLKIT, _PLUGIN = "unikernel-0.1.0-py3-none-any.whl", "pants_unikernel-0.1.0-py3-none-any.whl"
_INTERPRETERS = ("/usr/bin/python3.*", os.path.join(os.environ.get("PYENV_ROOT", "~/.pyenv"), "versions/*/bin/python3.*"))
_OLDEST, _NEWEST = (3, 9), (3, 14)


def _interpreters() -> dict[str, str]:
    """Return the path of one installed CPython that can make virtual environments for each series that the toolkit supports."""
    found: dict[str, str] = {}
    for pattern in _INTERPRETERS:
        for path in sorted(glob(os.path.expanduser(pattern))):
            match = re.fullmatch(r"python(3)\.([0-9]+)", os.path.basename(path))
            if not match or not _OLDEST <= (int(match[1]), int(match[2])) <= _NEWEST:
                continue
            if subprocess.run([path, "-c", "import ensurepip"], capture_output=True).returncode == 0:
                found[f"{match[1]}.{match[2]}"] = path
    return found


def _requirements(wheel: str) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist", [])


def _name(requirement: str) -> str:
    """Return the normalized name of the distribution that a requirement demands."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_toolkit_requires_what_it_needs_in_ranges_and_nothing_that_only_tests_need() -> None:
    required = _requirements(_TOOLKIT)
    needed = [UnikernelToolkit.default_version, *UnikernelToolkit.default_extra_requirements]
    assert sorted(map(_name, required)) == sorted(map(_name, needed))
    assert not [requirement for requirement in required if "==" in requirement.partition(";")[0]]
    assert sorted(_name(requirement) for requirement in required if "extra ==" in requirement) == [
        "cyclonedx-python-lib",
        "license-expression",
        "spdx-tools",
    ]


def test_plugin_requires_its_toolkit_and_nothing_that_pants_does_not_have() -> None:
    assert sorted(_requirements(_PLUGIN)) == ["packaging (>=21.3)", "unikernel (==0.1.0)"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    """A repository with the plugin from wheels, whose image is packaged."""
    root = tmp_path_factory.mktemp("wheels")
    wheels = root / "wheels"
    wheels.mkdir()
    for wheel in (_TOOLKIT, _PLUGIN):
        shutil.copy(wheel, wheels)
    with PantsProject(root / "repository", configuration=CONFIGURATION.format(wheels=wheels), isolated=True) as project:
        project.write("BUILD", BUILD)
        project.write("main.c", '#include <stdio.h>\nint main(void) { puts("from wheels"); return 9; }\n')
        printed = project.succeed("package", "//:unikernel")
        assert "Wrote dist/unikernel.elf" in printed
        yield project


def test_plugin_from_wheels_packages_and_runs_an_image_in_an_empty_repository(project: PantsProject) -> None:
    assert project.dist() == sorted(files_of("unikernel"))
    image, key = project.root / "dist/unikernel.elf", public_part_path(project.development_key)
    assert boot(image, key=key) == (9, "from wheels\nunikernel: exited with status 9\n")
    status, printed = project.run("run", "//:unikernel", "--", "--ignored")
    assert (status, "from wheels" in printed) == (9, True)


@pytest.mark.parametrize("interpreter", _interpreters().values(), ids=_interpreters())
def test_toolkit_by_itself_is_the_command_unikernel(project: PantsProject, tmp_path: Path, interpreter: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PEX_", "PYTHON"))}
    image, key = str(project.root / "dist/unikernel.elf"), str(public_part_path(project.development_key))

    def run(*command: str, status: int = 0) -> str:
        completed = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8")
        assert completed.returncode == status, completed.stdout + completed.stderr
        return completed.stdout

    run(interpreter, "-m", "venv", "venv")
    python, unikernel = str(tmp_path / "venv/bin/python"), str(tmp_path / "venv/bin/unikernel")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(Path(_TOOLKIT).resolve()))
    assert run(python, "-m", "pip", "check").startswith("No broken requirements")
    assert run(unikernel, "--version") == "unikernel 0.1.0\n"
    assert run(unikernel, "--help").startswith("usage: unikernel")
    assert "//:unikernel" in run(unikernel, "inspect", image)
    assert image in run(unikernel, "verify", "--allow-development-keys", "--key", key, image)
    assert "from wheels" in run(unikernel, "run", image, status=9)
