"""The sample services as a repository of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

from pants_project import PYTHON_BACKEND, PantsProject, plugin_configuration

_RESOLVE = '\n[python.resolves]\nservices = "services.lock"\n'


def make_services_project(root: Path, cache: Path | None = None, *, configuration: str = "") -> PantsProject:
    """With `cache`, Pants has caches of its own there instead of the user's. `configuration` is what pants.toml has beside the usual."""
    environment = {"XDG_CACHE_HOME": str(cache)} if cache is not None else {}
    usual = plugin_configuration(PYTHON_BACKEND, extra=_RESOLVE + configuration).replace(
        "[python]\n", '[python]\nenable_resolves = true\ndefault_resolve = "services"\ninvalid_lockfile_behavior = "ignore"\n'
    )
    usual = usual.replace('root_patterns = ["/"]', 'root_patterns = ["/src/services"]')
    project = PantsProject(root, configuration=usual, environment=environment)
    shutil.copytree("src/services", root / "src/services")
    for file in ("services.lock", "services.txt"):
        shutil.copy(f"3rdparty/python/{file}", root / file)
    project.write("BUILD", 'python_requirements(name="services", source="services.txt")\n')
    return project
