"""The requests by which `tailor` finds services, and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from pants.engine.addresses import Address
from pants.util.frozendict import FrozenDict

from pants_unikernel.services.dockerfile import Dockerfile
from pants_unikernel.services.signs import Sign


@dataclass(frozen=True)
class SourceSignsRequest:
    """A request for the signs in the sources of one target.

    It is answered once, however many applications have them.
    """

    address: Address


@dataclass(frozen=True)
class SourceSigns:
    """The signs in the sources of one target.

    `by_path` has all sources that were read. `imports` are what they import: as `PythonSource` has
    it, or packages of Go.
    """

    by_path: FrozenDict[str, tuple[Sign, ...]]
    imports: tuple[str, ...] = ()


@dataclass(frozen=True)
class CandidateRequest:
    """A request for whether a program (not a `docker_image`) is a service."""

    address: Address


@dataclass(frozen=True)
class Candidate:
    """An application that may be a service: `reason` says why it is, or why it is not."""

    address: Address
    is_service: bool
    reason: str


@dataclass(frozen=True)
class ReadDockerfileRequest:
    address: Address


@dataclass(frozen=True)
class ReadDockerfile:
    """A Dockerfile, or None and the problem where it cannot be read."""

    dockerfile: Optional[Dockerfile]
    problem: str = ""


@dataclass(frozen=True)
class PythonModule:
    """A module of the repository: its name, and the target that owns its source."""

    name: str
    path: str
    owner: Address

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")


@dataclass(frozen=True)
class PythonModules:
    """The repository's own modules, by their names."""

    by_name: FrozenDict[str, PythonModule]
