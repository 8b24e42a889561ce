"""The pipelines in docs/ci as their scripts: one after another, as the services that host them run them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

RECIPES = Path("docs/ci")
# The job of both pipelines.
_JOB = "images"


@dataclass(frozen=True)
class Step:
    """A script of a pipeline, by the name that it has there, and the variables that only this step has."""

    name: str
    script: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GitHubRecipe:
    """The workflow for GitHub Actions, whose steps are shells of their own."""

    document: Mapping[str, Any]

    @property
    def container(self) -> str:
        """The container image that the steps run in."""
        return str(self.document["jobs"][_JOB]["container"])

    def steps(self, values: Mapping[str, str]) -> Iterator[Step]:
        """Return the steps that have scripts, with `values` in place of the expressions `${{ … }}`."""
        for step in self.document["jobs"][_JOB]["steps"]:
            if "run" in step:
                variables = {name: _expanded(text, values) for name, text in step.get("env", {}).items()}
                yield Step(step["name"], step["run"], variables)


@dataclass(frozen=True)
class GitLabRecipe:
    """The pipeline for GitLab, whose scripts share one shell: a step has its name in a comment."""

    document: Mapping[str, Any]

    @property
    def container(self) -> str:
        """The container image that the scripts run in."""
        return str(self.document[_JOB]["image"])

    def steps(self) -> Iterator[Step]:
        """Return the scripts, each with what earlier ones set for it."""
        job = self.document[_JOB]
        before = ""
        for script in (*job["before_script"], *job["script"], *job["after_script"]):
            name = re.match(r"# ([^,\n]*)", script)
            assert name is not None
            yield Step(name[1], before + script)
            if name[1] == "Find what changed":
                before = script


def read_github_recipe() -> GitHubRecipe:
    """Return docs/ci/github-actions.yml."""
    return GitHubRecipe(yaml.safe_load((RECIPES / "github-actions.yml").read_text()))


def read_gitlab_recipe() -> GitLabRecipe:
    """Return docs/ci/gitlab-ci.yml."""
    return GitLabRecipe(yaml.safe_load((RECIPES / "gitlab-ci.yml").read_text()))


def _expanded(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: values[match[1]], text)
