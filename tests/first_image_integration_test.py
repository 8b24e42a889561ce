"""The first ten minutes: the README's first command on a bare Debian, up to an image that boots and is verified.

Debian 12 by default, which CI runs; UNIKERNEL_TEST_DEBIAN names others, such as "bookworm trixie sid".
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_recipes import Step, read_github_recipe, read_gitlab_recipe
from debian_chroot import DebianChroot
from machine import Machine, boot, free_port, http_get
from monorepo import Service, make_monorepo
from pants_project import PLUGIN_SOURCE_ROOTS

_USER = "ada"
# A space and a letter outside ASCII, as in many a home.
_CHECKOUT = "/home/ada/my projet é"
_IN_CHECKOUT = f"cd '{_CHECKOUT}'"
_DEVELOPMENT_KEY = "home/ada/.config/unikernel/development-key.pub"
_RELEASES = os.environ.get("UNIKERNEL_TEST_DEBIAN", "bookworm").split()
# All of this repository, below the sandbox.
_CLONE = Path("clone")


def readme_command() -> str:
    """Return the README's first command, as a newcomer copies it."""
    match = re.search(r"^\$ (\./bootstrap && \./pants package [^#\n]*)", (_CLONE / "README.md").read_text(), re.MULTILINE)
    assert match is not None
    return match[1].strip()


@pytest.fixture(scope="module", params=_RELEASES)
def machine(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianChroot]:
    """A bare Debian with a clone of this repository in the HOME of an ordinary user."""
    root = tmp_path_factory.mktemp(request.param) / "root"
    debian = DebianChroot(root, request.param)
    debian.add_user(_USER)
    shutil.copytree(_CLONE, root / _CHECKOUT[1:])
    identity = "-c user.name=Ada -c user.email=ada@example.org"
    git = f"git init --quiet && git add --all && git {identity} commit --quiet --message='A clone'"
    debian.succeed(f"chown -R {_USER}: /home/{_USER} && chmod -R u+w /home/{_USER}")
    debian.succeed(f"{_IN_CHECKOUT} && {git}", user=_USER)
    yield debian
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def set_up(machine: DebianChroot) -> DebianChroot:
    """The machine after a user without rights was told what to install, and somebody with rights did."""
    told = machine.fail(f"{_IN_CHECKOUT} && ./bootstrap", user=_USER)
    [line] = told.splitlines()
    command = re.search(r"`sudo (apt-get install [^`]*)`", line)
    assert command is not None, line
    # Packaging needs none of these.
    assert not re.search("docker|skopeo|gdb|riscv|picolibc|qemu", command[1])
    machine.succeed(f"apt-get update && DEBIAN_FRONTEND=noninteractive {command[1]}")
    return machine


@pytest.fixture(scope="module")
def packaged(set_up: DebianChroot) -> str:
    """What the README's first command printed."""
    return set_up.succeed(f"{_IN_CHECKOUT} && {readme_command()}", user=_USER)


def test_the_first_command_ends_with_what_to_do_next(packaged: str) -> None:
    closing = packaged.strip().splitlines()[-1]
    match = re.search(
        r"(\d+) images are in dist/, signed by the development key [0-9a-f]{64}\. "
        r"Next: \./pants run (\S+) \(boots it\), \./pants unikernel-verify ::",
        closing,
    )
    assert match is not None, closing
    entries = packaged.count("SHA-256 ")
    assert int(match[1]) == entries, packaged
    assert f"Wrote dist/{match[2].replace('/', '.').replace(':', '/')}.elf" in packaged
    # An entry per target, not one per file.
    for name in (".json", ".spdx", ".sigstore", ".intoto"):
        assert not re.search(rf"Wrote \S*{re.escape(name)}", packaged), name


def test_what_lacks_a_toolchain_is_named_with_the_fix(packaged: str) -> None:
    [line] = [line for line in packaged.splitlines() if "Not packaged: src/services/sieve:unikernel" in line]
    assert "riscv64-unknown-elf-gcc" in line and "gcc-riscv64-unknown-elf" in line


def test_the_images_are_verified(packaged: str, set_up: DebianChroot) -> None:
    printed = set_up.succeed(f"{_IN_CHECKOUT} && ./pants unikernel-verify ::", user=_USER)
    assert "dist/src.services.greeter/unikernel.elf: verified" in printed


def test_the_images_boot_and_answer(packaged: str, set_up: DebianChroot) -> None:
    """They boot on the host: the bare machine has no QEMU, since packaging needs none."""
    key = set_up.root / _DEVELOPMENT_KEY
    dist = set_up.root / _CHECKOUT[1:] / "dist"
    status, console = boot(dist / "src.services.arguments/unikernel.elf", arguments=["Ada"], key=key)
    assert "Ada" in console, console
    assert status == 0, console
    port = free_port()
    with Machine(dist / "src.services.greeter/unikernel.elf", options=[f"--port={port}:8080"], key=key):
        assert "Ada" in http_get(port, "/greet?name=Ada")[1]


def test_the_first_use_of_more_says_what_is_missing(packaged: str, set_up: DebianChroot) -> None:
    printed = set_up.fail(f"{_IN_CHECKOUT} && ./pants run src/services/arguments:unikernel", user=_USER)
    assert re.search(r"qemu-system-x86_64.*apt-get install qemu-system-x86", printed), printed


def test_a_second_time_without_a_network(packaged: str, set_up: DebianChroot) -> None:
    again = set_up.succeed(f"{_IN_CHECKOUT} && {readme_command()}", user=_USER, offline=True)
    assert "bootstrap: ready." in again
    assert packaged.strip().splitlines()[-1].partition("] ")[2] in again
    # It looks at the machine anew, and makes nothing again.
    assert not re.search("Starting: (Build|Compile|Configure|Install|Lay|Link)", again), again


# --- docs/ci: the scripts of both pipelines in the container image that they name ---------------

_MONOREPO = "root/monorepo"
# Pants' own launcher comes from the internet, and a registry is not here: ci_recipes_integration_test.py publishes.
_NOT_HERE = ("Install Pants' launcher", "Publish")
_CHANGED = Service(0), Service(1)
# The container image that both pipelines name.
_ON_DEBIAN_12 = pytest.mark.parametrize("machine", ["bookworm"], indirect=True)
# As the launcher's: with an interpreter of its own, which services do not get.
_LAUNCHER = """\
#!/bin/bash
set -a
source <(grep -v SEARCH_PATH '{checkout}/.bootstrap/environment')
exec '{checkout}/.bootstrap/venv/bin/pants' "$@"
"""


@pytest.fixture(scope="module")
def pipeline(packaged: str, set_up: DebianChroot) -> str:
    """Make a monorepo with a change in a Python and a C service, and return the commit before it."""
    root = set_up.root / _MONOREPO
    project = make_monorepo(root, 3)
    configuration = (root / "pants.toml").read_text()
    for source_root in PLUGIN_SOURCE_ROOTS:
        below = "pants-plugins" if (source_root / "pants_unikernel").is_dir() else "src/python"
        configuration = configuration.replace(f'"{source_root}"', f'"{_CHECKOUT}/{below}"')
    project.write("pants.toml", configuration)
    project.write(".gitignore", ".cache/\n.pants.d/\n.pids/\ndist/\n")
    for service in _CHANGED:
        test = 'unikernel_test(name="says", image=":unikernel", console=["^service "])\n'
        project.write(f"{service.directory}/BUILD", service.files(with_image=True)[f"{service.directory}/BUILD"] + test)
    launcher = set_up.root / "usr/local/bin/pants"
    launcher.write_text(_LAUNCHER.format(checkout=_CHECKOUT))
    launcher.chmod(0o755)
    commit = "git -c user.name=Ada -c user.email=ada@example.org commit --quiet --all --message=Change"
    base = f"cd /{_MONOREPO} && git init --quiet && git add --all && {commit} && git rev-parse HEAD"
    before = set_up.succeed(base).strip()
    for service in _CHANGED:
        source = root / service.source
        source.write_text(source.read_text().replace("service", "service number", 1))
    set_up.succeed(f"cd /{_MONOREPO} && {commit}")
    return before


def run_step(machine: DebianChroot, step: Step, environment: dict[str, str]) -> str:
    """Run a script as a pipeline does, and return what it printed. The kernel is in the cache already."""
    caches = "/home/ada/.cache/pants"
    variables = {
        "PANTS_LOCAL_STORE_DIR": f"{caches}/lmdb_store",
        "PANTS_NAMED_CACHES_DIR": f"{caches}/named_caches",
        **environment,
        **step.environment,
    }
    # Not `set -e` in the script itself: the services give it to the shell.
    return machine.succeed(f"cd /{_MONOREPO} && set -e -o pipefail\n{step.script}", environment=variables)


def check_pipeline(printed: dict[str, str]) -> None:
    for service in _CHANGED:
        assert f"{service.directory}:says succeeded" in printed["Test"]
        path = f"dist/{service.directory.replace('/', '.')}/unikernel.elf"
        assert f"Wrote {path}" in printed["Package"]
        assert f"{path}: verified" in printed["Verify"]


@_ON_DEBIAN_12
def test_github_actions(pipeline: str, set_up: DebianChroot) -> None:
    recipe = read_github_recipe()
    assert recipe.container == "debian:12"
    values = dict.fromkeys(("github.actor", "secrets.GITHUB_TOKEN", "secrets.SIGNING_KEY", "secrets.COSIGN_PASSWORD"), "")
    values["github.event.pull_request.base.sha || github.event.before"] = pipeline
    printed: dict[str, str] = {}
    variables = set_up.root / "root/github_env"
    variables.touch()
    for step in recipe.steps(values):
        if step.name not in _NOT_HERE:
            exported = dict(line.split("=", 1) for line in variables.read_text().splitlines())
            environment = {"GITHUB_ENV": "/root/github_env", **exported}
            printed[step.name] = run_step(set_up, step, environment)
    check_pipeline(printed)


@_ON_DEBIAN_12
def test_gitlab(pipeline: str, set_up: DebianChroot) -> None:
    recipe = read_gitlab_recipe()
    assert recipe.container == "debian:12"
    environment = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": pipeline, "XDG_CACHE_HOME": f"/{_MONOREPO}/.cache"}
    printed: dict[str, str] = {}
    (set_up.root / _MONOREPO / ".cache/pants/lmdb_store").mkdir(parents=True)
    for step in recipe.steps():
        if step.name not in _NOT_HERE:
            printed[step.name] = run_step(set_up, step, environment)
    check_pipeline(printed)
