"""The pipelines in docs/ci, as far as they go without the services that host them: their scripts run, one after another, in a repository with
a change, and publish to a registry.
"""

from __future__ import annotations

import collections
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import needs
from ci_recipes import RECIPES, Step, read_github_recipe, read_gitlab_recipe
from monorepo import Service, make_monorepo
from pants_project import PantsProject
from unikernel.signing.keys import PrivateKey
from unikernel.testing.cosign import run_cosign
from unikernel.testing.debian_package import program
from unikernel.testing.registry import Registry, running_registry
from unikernel.testing.signing import write_key

_USER, _PASSWORD = "robot", "not-a-secret"
_PASSWORD_OF_KEY = "neither"
# What is there already, or cannot be had without the hosting service.
_NOT_RUN = ("Install the tools", "Install Pants' launcher")
_CONFIGURATION = """
[test]
output = "all"

[docker]
default_repository = "{directory}"

[docker.registries.local]
address = "HOST"
default = true
"""
_CHANGED, _UNCHANGED = Service(1), Service(2)


@dataclass
class Pipeline:
    """A repository in which commit `base` is what was there, with another commit on it; and the environment of its scripts."""

    project: PantsProject
    registry: Registry
    base: str
    environment: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, step: Step, more: Mapping[str, str]) -> None:
        if step.name in _NOT_RUN:
            return
        ran = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step.script],
            cwd=self.project.root,
            env={**self.environment, **more, **step.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self.printed[step.name] = ran.stdout
        assert ran.returncode == 0, f"{step.name}:\n{ran.stdout}"


def git(project: PantsProject, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments]
    return subprocess.run(command, cwd=project.root, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout.strip()


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    with running_registry(tmp_path / "registry", users={_USER: _PASSWORD}) as registry:
        with make_monorepo(
            tmp_path / "repository", 3, extra_configuration=_CONFIGURATION.replace("HOST", registry.host)
        ) as project:
            for service in (_CHANGED, _UNCHANGED):
                build = dict(service.files(with_image=False))[f"{service.directory}/BUILD"]
                test = 'unikernel_test(name="says", image=":unikernel", console=["^service "])\n'
                image = service.image_declaration(formats='["elf", "oci"]')
                project.write(f"{service.directory}/BUILD", f"{build}\n{image}\n{test}")
            project.write("pants.publish.toml", (RECIPES / "pants.publish.toml").read_bytes())
            project.write(".gitignore", ".pants.d/\n.pids/\ndist/\n")
            git(project, "init", "--quiet")
            git(project, "add", ".")
            git(project, "commit", "--quiet", "--message=All of it")
            base = git(project, "rev-parse", "HEAD")
            source = project.root / _CHANGED.source
            source.write_text(source.read_text().replace("service %d", "service number %d"))
            git(project, "commit", "--quiet", "--all", "--message=A change")
            yield Pipeline(project, registry, base, scripts_environment(project, tmp_path))


def scripts_environment(project: PantsProject, directory: Path) -> dict[str, str]:
    programs, home = directory / "programs", directory / "home"
    programs.mkdir()
    pants = programs / "pants"
    pants.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pants --no-dynamic-ui "$@"\n')
    pants.chmod(0o755)
    (home / ".cache/pants/lmdb_store").mkdir(parents=True)
    # The registry of the tests has no certificate, and `skopeo login` no other way to be told.
    skopeo, real = programs / "skopeo", shlex.quote(program("skopeo"))
    skopeo.write_text(f'#!/bin/sh\nif [ "$1" = login ]; then exec {real} "$@" --tls-verify=false; else exec {real} "$@"; fi\n')
    skopeo.chmod(0o755)
    usual = project.environment
    return {
        **usual,
        "PATH": f"{programs}:{usual['PATH']}",
        # Pants' caches stay where they are.
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "HOME": str(home),
    }


def check_outcome(pipeline: Pipeline, key: Path) -> None:
    """Of a change to one service, published with the public key `key`."""
    assert f"{_CHANGED.directory}:says succeeded" in pipeline.printed["Test"]
    assert f"{_UNCHANGED.directory}:says" not in pipeline.printed["Test"]
    directory = _CHANGED.directory.replace("/", ".")
    assert {path.split("/")[0] for path in pipeline.project.dist() if path.endswith(".elf")} == {directory}
    assert f"dist/{directory}/unikernel.elf: verified" in pipeline.printed["Verify"]
    tags = [request.path for request in pipeline.registry.requests("PUT", "/manifests/latest") if request.status == 201]
    assert tags == [f"/v2/{_CHANGED.directory.rpartition('/')[2]}/manifests/latest"]
    [image] = re.findall(rf"{re.escape(pipeline.registry.host)}/\S+@sha256:[0-9a-f]{{64}}", pipeline.printed["Publish"])[:1]
    options = [f"--key={key}", "--insecure-ignore-tlog", "--allow-http-registry"]
    options += [f"--registry-username={_USER}", f"--registry-password={_PASSWORD}"]
    verified = run_cosign("verify", *options, image)
    assert verified.returncode == 0, verified.stdout
    assert re.search(r"^Pants' store: \d+M$", pipeline.printed["Keep the cache small"], re.MULTILINE)


def public_part(key: Path) -> Path:
    public = key.with_suffix(".pub")
    public.write_text(PrivateKey.load(key, _PASSWORD_OF_KEY.encode()).public.pem)
    return public


def test_github_actions(pipeline: Pipeline, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.pem", password=_PASSWORD_OF_KEY.encode())
    public = public_part(key)
    variables = tmp_path / "github_env"
    variables.touch()
    values = {
        "github.event.pull_request.base.sha || github.event.before": pipeline.base,
        "github.actor": _USER,
        "secrets.GITHUB_TOKEN": _PASSWORD,
        "secrets.SIGNING_KEY": key.read_text(),
        "secrets.COSIGN_PASSWORD": _PASSWORD_OF_KEY,
    }
    key.unlink()
    for step in read_github_recipe().steps(values):
        exported = dict(line.split("=", 1) for line in variables.read_text().splitlines())
        if "REGISTRY" in step.environment:
            step = replace(step, environment={**step.environment, "REGISTRY": pipeline.registry.host})
        pipeline.run(step, {"GITHUB_ENV": str(variables), **exported})
    check_outcome(pipeline, public)
    # Neither the key nor a login stays behind.
    assert not any("SIGNING_KEY" in line for line in variables.read_text().splitlines())
    assert [path for path in (tmp_path / "home").rglob("*") if path.name in ("auth.json", "key.pem")] == []


def test_gitlab(pipeline: Pipeline, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.pem", password=_PASSWORD_OF_KEY.encode())
    public = public_part(key)
    settings = {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": pipeline.base,
        "CI_COMMIT_BRANCH": "main",
        "CI_DEFAULT_BRANCH": "main",
        "CI_REGISTRY": pipeline.registry.host,
        "CI_REGISTRY_USER": _USER,
        "CI_REGISTRY_PASSWORD": _PASSWORD,
        "SIGNING_KEY": str(key),
        "COSIGN_PASSWORD": _PASSWORD_OF_KEY,
    }
    for step in read_gitlab_recipe().steps():
        pipeline.run(step, {**settings, "XDG_CACHE_HOME": str(tmp_path / "home/.cache")})
    check_outcome(pipeline, public)


def test_all_is_packaged_where_nothing_was_before(pipeline: Pipeline, tmp_path: Path) -> None:
    """As on a new branch: there is no commit to compare with."""
    recipe = read_github_recipe()
    variables = tmp_path / "github_env"
    values: dict[str, str] = collections.defaultdict(str)
    [find] = [step for step in recipe.steps(values) if step.name == "Find what changed"]
    pipeline.run(replace(find, environment={"GITHUB_ENV": str(variables), "BASE": "0" * 40}), {})
    assert variables.read_text() == "CHANGED=::\n"


def test_the_tools_are_those_of_the_build() -> None:
    """The recipes install what `./bootstrap` installs for packaging, and QEMU and skopeo."""
    wanted = {need.packages[0] for need in needs.PACKAGE} | {"qemu-system-x86", "skopeo"}
    for recipe in ("github-actions.yml", "gitlab-ci.yml"):
        words = set((RECIPES / recipe).read_text().split())
        assert wanted - words == set(), recipe
