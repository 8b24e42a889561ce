"""What all images of layers have in common: the layers' archives, the one that depends on the image's own settings, and the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unikernel.errors import UnikernelError
from unikernel.image.limits import check_needs
from unikernel.image.manifest_pb2 import Layer, Network, Start
from unikernel.image.spec import ImageSpec
from unikernel.rootfs.base import build_base_layer
from unikernel.rootfs.layer import Layer as RootfsLayer
from unikernel.rootfs.layer import LayerIndex

USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"HOME": "/", "PATH": USUAL_PATH}


@dataclass(frozen=True)
class Archive:
    path: Path
    index: LayerIndex


def read_archives(layers: Sequence[Path]) -> list[Archive]:
    """Each has its index beside it."""
    return [Archive(path, LayerIndex.read(path.with_suffix(".json"))) for path in layers]


def start_and_archives(
    spec: ImageSpec, layers: Sequence[Path], scratch: Path, *, is_whole: bool = True
) -> tuple[Start, list[Archive]]:
    """What an image starts, and its layers with the one of its own settings before them.

    Raises UnikernelError when a layer needs what none of them has, if the image has all of a root file system.
    """
    archives = read_archives(layers)
    if is_whole:
        check_needs([archive.index for archive in archives])
    return start_of(spec, archives), [base_archive(spec, archives, scratch), *archives]


def start_of(spec: ImageSpec, archives: Sequence[Archive]) -> Start:
    for archive in archives:
        start = archive.index.facts.get("start")
        if start is not None:
            environment = {**start["environment"], **spec.environment}
            return Start(
                program=start["program"],
                arguments=[*start["arguments"], *spec.arguments],
                environment=[f"{key}={value}" for key, value in sorted(environment.items())],
                working_directory=spec.working_directory,
            )
    raise UnikernelError("None of the layers says what to start: one must be an application's.")


def with_usual_environment(start: Start) -> Start:
    """With what our PID 1 gives every program: an interpreter looks for itself on PATH."""
    names = {variable.partition("=")[0] for variable in start.environment}
    usual = [f"{name}={value}" for name, value in _ENVIRONMENT.items() if name not in names]
    return Start(
        program=start.program,
        arguments=start.arguments,
        environment=sorted([*start.environment, *usual]),
        working_directory=start.working_directory,
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
