"""Repositories of any number of services, in C and in Python, that share libraries: what benchmarks and tests of scale package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pants_project import PYTHON_BACKEND, PantsProject, plugin_configuration

# One service of so many is in Python.
_PYTHON_EVERY = 10
# So many services of a language share a library of their own, besides the one that all of the language share.
_TEAM = 10
_C_LIBRARY = """\
#include "shared/{name}.h"

const char *{name}_greeting(void) {{
    return "{name}, version 1";
}}
"""
_C_HEADER = """\
const char *{name}_greeting(void);
"""
_C_SERVICE = """\
#include <stdio.h>
#include <stdlib.h>

#include "shared/common.h"
#include "shared/{team}.h"

int main(void) {{
    printf("service %d: %s; %s\\n", {number}, common_greeting(), {team}_greeting());
    return EXIT_SUCCESS;
}}
"""
_PYTHON_SERVICE = """\
from shared.common import greeting as common_greeting
from shared.{team} import greeting as team_greeting


def main() -> None:
    print(f"service {number}: {{common_greeting()}}; {{team_greeting()}}")


if __name__ == "__main__":
    main()
"""
_SHARED_BUILD = """\
cc_sources(name="c", sources=["*.c", "*.h"])

python_sources(name="python")
"""


@dataclass(frozen=True)
class Service:
    """`number` starts at 0. Its directory is `services/NAME`, its application the target `app`, its image `unikernel`."""

    number: int

    @property
    def is_python(self) -> bool:
        return self.number % _PYTHON_EVERY == 0

    @property
    def name(self) -> str:
        return f"service_{self.number:04}"

    @property
    def team(self) -> str:
        return f"team_{self.number // _TEAM:03}"

    @property
    def directory(self) -> str:
        return f"services/{self.name}"

    @property
    def source(self) -> str:
        """Its own, which no other service has."""
        return f"{self.directory}/main.{'py' if self.is_python else 'c'}"

    @property
    def app(self) -> str:
        return f"{self.directory}:app"

    @property
    def image(self) -> str:
        return f"{self.directory}:unikernel"

    def files(self, *, with_image: bool) -> Mapping[str, str]:
        """Content by path."""
        if self.is_python:
            build = 'python_sources(name="sources")\n\npex_binary(name="app", entry_point="main.py:main")\n'
            text = _PYTHON_SERVICE
        else:
            libraries = ", ".join(f'"//{shared_source(name, "c")}:c"' for name in ("common", self.team))
            build = f'cc_sources(name="sources")\n\ncc_binary(name="app", dependencies=[":sources", {libraries}])\n'
            text = _C_SERVICE
        if with_image:
            build += f"\n{self.image_declaration()}"
        return {f"{self.directory}/BUILD": build, self.source: text.format(number=self.number, team=self.team)}

    def image_declaration(self, **fields: str) -> str:
        """`fields` are added, in Python's notation."""
        memory = "96M" if self.is_python else "32M"
        settings = {"name": '"unikernel"', "app": '":app"', "memory": f'"{memory}"', "network": '"none"', **fields}
        return "unikernel_image(\n" + "".join(f"    {name}={value},\n" for name, value in settings.items()) + ")\n"


def shared_source(team: str, language: str) -> str:
    """`language` is c or py."""
    return f"shared/{team}.{language}"


def make_monorepo(
    root: Path,
    count: int,
    *,
    with_images: bool = True,
    environment: Mapping[str, str] | None = None,
    extra_configuration: str = "",
) -> PantsProject:
    """A repository of `count` services. Without images it is what a team has before it adds any: of the plugin there is the backend that compiles
    programs in C, which Pants itself has none for.
    """
    plugin = "pants_unikernel" if with_images else "pants_unikernel.cc"
    configuration = plugin_configuration(PYTHON_BACKEND, plugin=plugin, extra=extra_configuration)
    project = PantsProject(root, configuration=configuration, environment=environment)
    services = [Service(number) for number in range(count)]
    project.write("shared/BUILD", _SHARED_BUILD)
    project.write("shared/__init__.py", "")
    for library in sorted({"common", *(service.team for service in services)}):
        project.write(shared_source(library, "c"), _C_LIBRARY.format(name=library))
        project.write(f"shared/{library}.h", _C_HEADER.format(name=library))
        project.write(shared_source(library, "py"), f'def greeting() -> str:\n    return "{library}, version 1"\n')
    for service in services:
        for path, content in service.files(with_image=with_images).items():
            project.write(path, content)
    return project
