"""What a service is to be in a cluster: the one description that all its manifests are made from.

Rules for names: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ (RFC 1035 and RFC 1123 labels, RFC
1123 subdomains) and .../labels/#syntax-and-character-set; for names of ports: RFC 6335, section 5.1.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from unikernel.errors import UnikernelError
from unikernel.image.spec import PROTOCOLS

NAME_LABEL = "app.kubernetes.io/name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
# An ELF file that a VMM loads as a kernel, or a disk that a machine boots from.
KINDS = ("elf", "disk")
CONTAINER, UNIKERNEL, VIRTUAL_MACHINE = "container", "unikernel", "virtual-machine"

_LONGEST_LABEL, _LONGEST_SUBDOMAIN = 63, 253
# A Service's name is an RFC 1035 label: the one of the two kinds that does not start with a digit.
_SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_QUALIFIED_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LONGEST_PORT_NAME = 15
# https://github.com/distribution/reference (reference.go); there, but for "localhost", a host has a dot or a port.
_HOST = r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]+)"
_REPOSITORY = r"[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"{_HOST}(/{_REPOSITORY})+@sha256:[0-9a-f]{{64}}")
_MEBIBYTE = 2**20
# The fields of a workload that are text.
_TEXTS = (
    *("name", "target", "unikernel_image", "container_image", "kind", "image_path", "kernel_arguments", "namespace"),
    *("runtime_class", "service_account", "deploy_as"),
)


@dataclass(frozen=True)
class ServicePort:
    """A port that the service listens on. Without a name it is called by protocol and number ("tcp-8080")."""

    port: int
    protocol: str = "tcp"
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or f"{self.protocol}-{self.port}"

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"

    def __post_init__(self) -> None:
        if type(self.port) is not int or not 0 < self.port < 65536:
            raise ValueError(f"ports: {self.port!r} is no port; ports are 1 to 65535")
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"ports: {self.protocol!r}, of port {self.port}, is none of {', '.join(PROTOCOLS)}")
        _check_text("ports", self.name)
        if self.name and (len(self.name) > _LONGEST_PORT_NAME or not _PORT_NAME.fullmatch(self.name)):
            raise ValueError(
                f"ports: {self.name!r} is no name of a port; it has at most {_LONGEST_PORT_NAME} lower case letters, digits "
                "and single hyphens, at least one of them a letter, and hyphens are neither first nor last"
            )


@dataclass(frozen=True)
class Workload:
    """A service, as a container image, a unikernel image or both. What does not fit raises ValueError that names the field.

    `target` is the build system's name for it. Images are named by digest ("registry.example.com/team/greeter@sha256:...").
    `image_path` is where the ELF file, or the disk, is in the unikernel's OCI image. `kernel_arguments` are for an ELF file
    that KubeVirt boots (urunc reads them from the image). `memory` is in bytes. `deploy_as` ("container", "unikernel" or
    "virtual-machine") says which manifest kustomization.yaml lists; if empty, the first of these that there is.
    """

    name: str
    memory: int
    target: str = ""
    unikernel_image: str = ""
    container_image: str = ""
    kind: str = "elf"
    image_path: str = ""
    kernel_arguments: str = ""
    ports: tuple[ServicePort, ...] = ()
    cpus: int = 1
    namespace: str = ""
    replicas: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = "urunc"
    service_account: str = ""
    deploy_as: str = ""

    @property
    def choices(self) -> tuple[str, ...]:
        """What it can be deployed as. urunc's VMMs load kernels: they boot no disk."""
        choices = [CONTAINER] if self.container_image else []
        if self.unikernel_image:
            choices += [UNIKERNEL, VIRTUAL_MACHINE] if self.kind == "elf" else [VIRTUAL_MACHINE]
        return tuple(choices)

    @property
    def choice(self) -> str:
        return self.deploy_as or self.choices[0]

    @classmethod
    def read(cls, path: Path) -> Workload:
        """From a JSON document with the fields of this class; `ports` are objects with `port`, `protocol` and `name`. Raises
        UnikernelError.
        """
        try:
            document = _fields(cls, json.loads(path.read_bytes()), "it")
            ports = document.pop("ports", [])
            if not isinstance(ports, list):
                raise ValueError(f"ports: {ports!r} is no list")
            return cls(ports=tuple(ServicePort(**_fields(ServicePort, port, "ports: each")) for port in ports), **document)
        except ValueError as error:
            raise UnikernelError(f"{path} does not describe a workload: {error}.") from error
        except OSError as error:
            raise UnikernelError(f"The workload {path} cannot be read: {error.strerror}.") from error

    def __post_init__(self) -> None:
        for name in _TEXTS:
            _check_text(name, getattr(self, name))
        _check_name("name", self.name, _SERVICE_NAME, _LONGEST_LABEL, "lower case letters, digits and hyphens, a letter first")
        for name, pattern, longest in (
            ("namespace", _LABEL, _LONGEST_LABEL),
            ("runtime_class", _SUBDOMAIN, _LONGEST_SUBDOMAIN),
            ("service_account", _SUBDOMAIN, _LONGEST_SUBDOMAIN),
        ):
            if getattr(self, name) or name == "runtime_class":
                _check_name(name, getattr(self, name), pattern, longest, "lower case letters, digits and hyphens")
        for name, least in (("memory", _MEBIBYTE), ("cpus", 1), ("replicas", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                unit = " (it is in bytes)" if name == "memory" else ""
                raise ValueError(f"{name}: {value!r} is no number from {least}{unit}")
        self._check_images()
        self._check_ports()
        _check_labels(self.labels)

    def _check_images(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: {self.kind!r} is none of {', '.join(KINDS)}")
        if not self.unikernel_image and not self.container_image:
            raise ValueError("there is neither a unikernel_image nor a container_image; name at least one")
        for name in ("unikernel_image", "container_image"):
            image = getattr(self, name)
            if image and not _IMAGE.fullmatch(image):
                raise ValueError(
                    f"{name}: {image!r} is no image of a registry by digest; write it as "
                    '"registry.example.com/team/greeter@sha256:" and 64 hexadecimal digits'
                )
        if self.unikernel_image and self.kind == "elf" and not self.image_path:
            raise ValueError("image_path: it is empty; it says where the ELF file is in unikernel_image")
        if self.image_path and not _is_file_path(self.image_path):
            raise ValueError(f"image_path: {self.image_path!r} is no absolute path of a file, without . and .. in it")
        if self.kernel_arguments and (not self.unikernel_image or self.kind != "elf"):
            raise ValueError("kernel_arguments: they are for an ELF file, and there is none that boots as a kernel")
        if self.deploy_as and self.deploy_as not in self.choices:
            raise ValueError(f"deploy_as: {self.deploy_as!r} is none of what its images allow: {', '.join(self.choices)}")

    def _check_ports(self) -> None:
        for index, port in enumerate(self.ports):
            if str(port) in map(str, self.ports[:index]):
                raise ValueError(f"ports: {port} is there twice")
            if port.label in (other.label for other in self.ports[:index]):
                raise ValueError(f"ports: two are called {port.label!r}")


def _fields(cls: type[Any], document: Any, what: str) -> dict[str, Any]:
    """The document, if its keys are those of the dataclass."""
    if not isinstance(document, dict):
        raise ValueError(f"{what} is no JSON object")
    names = [item.name for item in fields(cls)]
    for name in document:
        if name not in names:
            raise ValueError(f"{what} has {name!r}, which is none of {', '.join(names)}")
    for item in fields(cls):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in document:
            raise ValueError(f"{what} has no {item.name!r}")
    return dict(document)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f"{name}: {value!r} is no line of text")


def _check_name(name: str, value: str, pattern: re.Pattern[str], longest: int, characters: str) -> None:
    if len(value) > longest or not pattern.fullmatch(value):
        raise ValueError(
            f"{name}: {value!r} is no name in a cluster; it has at most {longest} {characters}, and no hyphen is first or last"
        )


def _is_file_path(path: str) -> bool:
    return path.startswith("/") and path.strip("/") != "" and posixpath.normpath(f"/{path.lstrip('/')}") == path


def _check_labels(labels: Any) -> None:
    if not isinstance(labels, Mapping):
        raise ValueError(f"labels: {labels!r} is no object")
    for key, value in labels.items():
        _check_text("labels", key)
        _check_text("labels", value)
        prefix, slash, name = key.rpartition("/")
        if slash and (len(prefix) > _LONGEST_SUBDOMAIN or not _SUBDOMAIN.fullmatch(prefix)):
            raise ValueError(f"labels: {prefix!r}, in {key!r}, is no domain")
        if not _is_qualified(name) or (value and not _is_qualified(value)):
            raise ValueError(
                f"labels: {key}={value} is no label; names and values have at most {_LONGEST_LABEL} letters, digits, dots, "
                "hyphens and underscores, and a letter or digit is first and last"
            )
        if key in (NAME_LABEL, MANAGED_BY_LABEL):
            raise ValueError(f"labels: {key} is always set, as what the Service selects by or by what wrote the manifests")


def _is_qualified(text: str) -> bool:
    return len(text) <= _LONGEST_LABEL and _QUALIFIED_NAME.fullmatch(text) is not None
