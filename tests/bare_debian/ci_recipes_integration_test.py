"""The pipelines in docs/ci, as far as they go without the services that host them: their scripts run in the container image that they
name, one after another, in a repository with a change, and publish to a registry.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bare_debian.chroot import DebianChroot
from bare_debian.ci_recipes import RECIPES, Step, read_github_recipe, read_gitlab_recipe
from bare_debian.newcomer import CHECKOUT, GIT, PANTS_CACHES, Newcomer
from monorepo import Service, make_monorepo
from pants_project import PLUGIN_SOURCE_ROOTS
from unikernel.signing.keys import PrivateKey
from unikernel.testing.cosign import run_cosign
from unikernel.testing.registry import Registry, running_registry
from unikernel.testing.signing import write_key

_USER, _PASSWORD = "robot", "not-a-secret"
_PASSWORD_OF_KEY = "neither"
_MONOREPO = "/root/monorepo"
_SECRETS = "/root/secrets"
_CHANGED, _UNCHANGED = (Service(0), Service(1)), Service(2)
# It comes from the internet.
_NOT_RUN = "Install Pants' launcher"
# What stands for it: as the launcher, with an interpreter of Pants' own, which services do not get.
_LAUNCHER = f"""\
#!/bin/bash
set -a
source <(grep -v SEARCH_PATH '{CHECKOUT}/.bootstrap/environment')
NO_SCIE_WARNING=1
_PANTS_SERVER_EXE='{CHECKOUT}/.bootstrap/venv/bin/pants'
exec '{CHECKOUT}/.bootstrap/venv/bin/pants-client' "$@"
"""
# Both container image and code name of it.
_ON_DEBIAN_12 = pytest.mark.parametrize("arrived", ["bookworm"], indirect=True)
_CONFIGURATION = """
[test]
output = "all"

[docker]
default_repository = "{directory}"
"""


@dataclass
class Pipeline:
    """A repository in which `base` is a commit with another one on it; a registry; and what the steps printed."""

    debian: DebianChroot
    registry: Registry
    base: str
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, step: Step, variables: Mapping[str, str]) -> None:
        """Run a step's script in a shell of its own. The kernel is in the cache already."""
        if step.name == _NOT_RUN:
            return
        environment = {
            "PANTS_DOCKER_REGISTRIES": repr({"local": {"address": self.registry.host, "default": True}}),
            "PANTS_LOCAL_STORE_DIR": f"{PANTS_CACHES}/lmdb_store",
            "PANTS_NAMED_CACHES_DIR": f"{PANTS_CACHES}/named_caches",
            **variables,
            **step.environment,
        }
        # Not `set -e` in the script itself: the services give it to the shell.
        script = f"cd {_MONOREPO} && set -e -o pipefail\n{step.script}"
        self.printed[step.name] = self.debian.succeed(script, environment=environment)


@pytest.fixture(scope="module")
def repository(packaged: str, newcomer: Newcomer) -> str:
    """Make a monorepo with a change in a Python and a C service, and return the commit before it."""
    debian = newcomer.debian
    root = debian.path(_MONOREPO)
    project = make_monorepo(root, 3, extra_configuration=_CONFIGURATION)
    configuration = (root / "pants.toml").read_text()
    for source_root in PLUGIN_SOURCE_ROOTS:
        below = "pants-plugins" if (source_root / "pants_unikernel").is_dir() else "src/python"
        configuration = configuration.replace(f'"{source_root}"', f'"{CHECKOUT}/{below}"')
    project.write("pants.toml", configuration)
    project.write("pants.publish.toml", (RECIPES / "pants.publish.toml").read_bytes())
    project.write(".gitignore", ".cache/\n.pants.d/\n.pids/\ndist/\n")
    for service in (*_CHANGED, _UNCHANGED):
        build = service.files(with_image=False)[f"{service.directory}/BUILD"]
        image = service.image_declaration(formats='["elf", "oci"]')
        test = 'unikernel_test(name="says", image=":unikernel", console=["^service "])\n'
        project.write(f"{service.directory}/BUILD", f"{build}\n{image}\n{test}")
    launcher = debian.path("/usr/local/bin/pants")
    launcher.write_text(_LAUNCHER)
    launcher.chmod(0o755)
    commit = f"{GIT} commit --quiet --all"
    base = f"git init --quiet && git add --all && {commit} --message='All of it' && git rev-parse HEAD"
    before = debian.succeed(f"cd {_MONOREPO} && {base}").strip()
    for service in _CHANGED:
        source = root / service.source
        source.write_text(source.read_text().replace("service", "service number", 1))
    debian.succeed(f"cd {_MONOREPO} && {commit} --message='A change'")
    return before


@pytest.fixture
def pipeline(repository: str, newcomer: Newcomer, tmp_path: Path) -> Iterator[Pipeline]:
    debian = newcomer.debian
    secrets = debian.path(_SECRETS)
    secrets.mkdir(mode=0o700)
    (debian.path(_MONOREPO) / ".cache/pants/lmdb_store").mkdir(parents=True, exist_ok=True)
    debian.path("/root/.cache/pants/lmdb_store").mkdir(parents=True, exist_ok=True)
    with running_registry(tmp_path / "registry", users={_USER: _PASSWORD}) as registry:
        # The registry of the tests has no certificate.
        insecure = f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n'
        configuration = debian.path("/etc/containers/registries.conf.d/test.conf")
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text(insecure)
        yield Pipeline(debian, registry, repository)
    shutil.rmtree(secrets)
    shutil.rmtree(debian.path(_MONOREPO) / "dist", ignore_errors=True)


def check_outcome(pipeline: Pipeline, key: Path) -> None:
    """Check what became of a change to some services, published with the private key `key`."""
    directories = {service.directory.replace("/", ".") for service in _CHANGED}
    for service in _CHANGED:
        assert f"{service.directory}:says succeeded" in pipeline.printed["Test"]
    assert f"{_UNCHANGED.directory}:says" not in pipeline.printed["Test"]
    for directory in directories:
        assert f"dist/{directory}/unikernel.elf: verified" in pipeline.printed["Verify"]
    dist = pipeline.debian.path(_MONOREPO) / "dist"
    assert {path.parent.name for path in dist.glob("*/*.elf")} == directories
    tags = {request.path for request in pipeline.registry.requests("PUT", "/manifests/latest") if request.status == 201}
    assert tags == {f"/v2/{service.name}/manifests/latest" for service in _CHANGED}
    image = re.search(rf"{re.escape(pipeline.registry.host)}/\S+@sha256:[0-9a-f]{{64}}", pipeline.printed["Publish"])
    assert image is not None
    options = [f"--key={public_part(key)}", "--insecure-ignore-tlog", "--allow-http-registry"]
    options += [f"--registry-username={_USER}", f"--registry-password={_PASSWORD}"]
    verified = run_cosign("verify", *options, image[0])
    assert verified.returncode == 0, verified.stdout
    assert re.search(r"^Pants' store: \d+M$", pipeline.printed["Keep the cache small"], re.MULTILINE)


def public_part(key: Path) -> Path:
    public = key.with_suffix(".pub")
    public.write_text(PrivateKey.load(key, _PASSWORD_OF_KEY.encode()).public.pem)
    return public


@_ON_DEBIAN_12
def test_github_actions(pipeline: Pipeline, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.pem", password=_PASSWORD_OF_KEY.encode())
    variables = f"{_SECRETS}/github_env"
    exports = pipeline.debian.path(variables)
    exports.touch()
    values = {
        "github.event.pull_request.base.sha || github.event.before": pipeline.base,
        "github.actor": _USER,
        "secrets.GITHUB_TOKEN": _PASSWORD,
        "secrets.SIGNING_KEY": key.read_text(),
        "secrets.COSIGN_PASSWORD": _PASSWORD_OF_KEY,
    }
    for step in read_github_recipe().steps(values):
        exported = dict(line.split("=", 1) for line in exports.read_text().splitlines())
        if "REGISTRY" in step.environment:
            step = replace(step, environment={**step.environment, "REGISTRY": pipeline.registry.host})
        pipeline.run(step, {"GITHUB_ENV": variables, **exported})
    check_outcome(pipeline, key)
    # Neither the key nor a login stays behind.
    assert "SIGNING_KEY" not in exports.read_text()
    for directory in ("/root", "/tmp"):
        assert [path for path in pipeline.debian.path(directory).rglob("*") if path.name in ("auth.json", "key.pem")] == []


@_ON_DEBIAN_12
def test_gitlab(pipeline: Pipeline, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.pem", password=_PASSWORD_OF_KEY.encode())
    shutil.copy(key, pipeline.debian.path(_SECRETS))
    settings = {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": pipeline.base,
        "CI_COMMIT_BRANCH": "main",
        "CI_DEFAULT_BRANCH": "main",
        "CI_REGISTRY": pipeline.registry.host,
        "CI_REGISTRY_USER": _USER,
        "CI_REGISTRY_PASSWORD": _PASSWORD,
        "SIGNING_KEY": f"{_SECRETS}/key.pem",
        "COSIGN_PASSWORD": _PASSWORD_OF_KEY,
        "XDG_CACHE_HOME": f"{_MONOREPO}/.cache",
    }
    for step in read_gitlab_recipe().steps():
        pipeline.run(step, settings)
    check_outcome(pipeline, key)
