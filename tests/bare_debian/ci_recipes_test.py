from __future__ import annotations

import collections
import subprocess
from pathlib import Path

import needs
from bare_debian.ci_recipes import RECIPES, read_github_recipe, read_gitlab_recipe


def test_all_is_packaged_where_nothing_was_before(tmp_path: Path) -> None:
    """As on a new branch: there is no commit to compare with."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    values: dict[str, str] = collections.defaultdict(str)
    [find] = [step for step in read_github_recipe().steps(values) if step.name == "Find what changed"]
    variables = tmp_path / "github_env"
    environment = {"PATH": "/usr/bin:/bin", "GITHUB_ENV": str(variables), "BASE": "0" * 40}
    subprocess.run(["bash", "-e", "-o", "pipefail", "-c", find.script], cwd=tmp_path, env=environment, check=True)
    assert variables.read_text() == "CHANGED=::\n"


def test_the_tools_are_those_of_the_build() -> None:
    """The recipes install what `./bootstrap` installs for packaging, and QEMU and skopeo."""
    wanted = {need.packages[0] for need in needs.PACKAGE} | {"qemu-system-x86", "skopeo"}
    for recipe in ("github-actions.yml", "gitlab-ci.yml"):
        words = set((RECIPES / recipe).read_text().split())
        assert wanted - words == set(), recipe


def test_the_container_image_is_one() -> None:
    """The one whose scripts the integration test runs."""
    assert read_github_recipe().container == read_gitlab_recipe().container == "debian:12"
