"""What all images of layers have in common: the layers' archives, the one that depends on the image's own settings, and the start."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unikernel.errors import UnikernelError
from unikernel.image.accounts import find_account
from unikernel.image.limits import check_kinds, check_needs
from unikernel.image.manifest_pb2 import Layer, Network, Start
from unikernel.image.spec import USUAL_PATH, ImageSpec, Port
from unikernel.rootfs.base import build_base_layer
from unikernel.rootfs.layer import Layer as RootfsLayer
from unikernel.rootfs.layer import LayerIndex

_ENVIRONMENT = {"HOME": "/", "PATH": USUAL_PATH}


@dataclass(frozen=True)
class Archive:
    path: Path
    index: LayerIndex


def read_archives(layers: Sequence[Path]) -> list[Archive]:
    """Each has its index beside it."""
    return [Archive(path, LayerIndex.read(path.with_suffix(".json"))) for path in layers]


def start_and_archives(
    spec: ImageSpec, layers: Sequence[Path], scratch: Path, *, is_whole: bool = True, has_users: bool = True
) -> tuple[ImageSpec, Start, list[Archive]]:
    """What an image is to be, with all that the application says of it; what it starts; and its layers, with the one of its own settings
    before them.

    Raises UnikernelError when a layer needs what none of them has, if the image has all of a root file system, when layers do not go
    together, and for a user that the root file system does not know.
    """
    archives = read_archives(layers)
    if is_whole:
        check_needs([archive.index for archive in archives])
    facts = _start_facts(archives)
    spec = completed(spec, facts)
    archives = [base_archive(spec, archives, scratch), *archives]
    check_kinds([archive.index for archive in archives])
    return spec, _start(spec, facts, archives, has_users), archives


def _start_facts(archives: Sequence[Archive]) -> Mapping[str, Any]:
    """What the application's layer says: `program`, `arguments` (with argv[0]), `environment`, and, of a Docker image,
    `default_arguments`, `working_directory`, `user` and `ports` ("8080/tcp"). A layer of tests says what starts instead, and the rest
    stays.
    """
    instead: Mapping[str, Any] = {}
    for archive in archives:
        instead = archive.index.facts.get("start_instead", instead)
    for archive in archives:
        facts: Mapping[str, Any] | None = archive.index.facts.get("start")
        if facts is not None:
            return {**facts, **instead}
    raise UnikernelError("None of the layers says what to start: one must be an application's.")


def completed(spec: ImageSpec, facts: Mapping[str, Any]) -> ImageSpec:
    """The spec with what it leaves open as the application has it."""
    directory = spec.working_directory
    return replace(
        spec,
        arguments=spec.arguments or tuple(facts.get("default_arguments", ())),
        environment={**facts["environment"], **spec.environment},
        working_directory=directory if directory is not None else facts.get("working_directory") or "/",
        user=spec.user or facts.get("user", ""),
        ports=spec.ports or tuple(Port.parse(port) for port in facts.get("ports", ())),
    )


def _start(spec: ImageSpec, facts: Mapping[str, Any], archives: Sequence[Archive], has_users: bool) -> Start:
    environment, user = spec.environment, ""
    if spec.user or "user" in facts:
        account = find_account(spec.user, [archive.path for archive in archives])
        # As login(1) and Docker do.
        environment = {"HOME": account.home, **environment}
        user = str(account) if spec.user and has_users else ""
    return Start(
        program=facts["program"],
        arguments=[*facts["arguments"], *spec.arguments],
        environment=[f"{key}={value}" for key, value in sorted(environment.items())],
        working_directory=spec.working_directory,
        user=user,
    )


def with_usual_environment(start: Start) -> Start:
    """With what our PID 1 gives every program: an interpreter looks for itself on PATH."""
    names = {variable.partition("=")[0] for variable in start.environment}
    usual = [f"{name}={value}" for name, value in _ENVIRONMENT.items() if name not in names]
    return Start(
        program=start.program,
        arguments=start.arguments,
        environment=sorted([*start.environment, *usual]),
        working_directory=start.working_directory,
        user=start.user,
    )


def base_archive(spec: ImageSpec, archives: Sequence[Archive], scratch: Path) -> Archive:
    directories = sorted({path for archive in archives for path in archive.index.facts.get("openssl_directories", ())})
    layer = build_base_layer(
        spec.network,
        spec.hostname,
        tls=any(archive.index.tls for archive in archives),
        openssl_directories=directories,
        timezone=spec.timezone,
    )
    # Where another layer has a link or a file, it has no directory: what is in it would be in the way.
    others = {entry.path for archive in archives for entry in archive.index.entries if not stat.S_ISDIR(entry.mode)}
    layer.leave_out([path for path in layer.directories() if path in others])
    return write_archive(layer, "base", scratch)


def write_archive(layer: RootfsLayer, name: str, scratch: Path) -> Archive:
    path = scratch / f"{name}.cpio"
    index = LayerIndex(name, [])
    layer.write(path, index)
    return Archive(path, index)


def manifest_layers(archives: Sequence[Archive]) -> list[Layer]:
    return [
        Layer(name=archive.index.name, sha256=archive.index.archive_sha256, size=archive.index.archive_size) for archive in archives
    ]


def manifest_network(spec: ImageSpec) -> Network:
    return Network(
        mode=spec.network.mode,
        address=spec.network.address,
        gateway=spec.network.gateway,
        nameservers=spec.network.nameservers,
        hostname=spec.hostname,
    )
