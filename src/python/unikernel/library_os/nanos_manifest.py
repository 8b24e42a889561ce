"""Writes a root file system down as Nanos' mkfs reads it: tuples of names and values.

Syntax: src/runtime/tuple_parser.c in Nanos' source. Everything is quoted, which it always understands.
"""

from __future__ import annotations

import ipaddress
import posixpath
import stat
from collections.abc import Mapping
from typing import Any

from unikernel.image.manifest_pb2 import Start
from unikernel.image.spec import Network
from unikernel.rootfs.merge import MergedRootfs

# The first network interface (netif names in src/net/net.c).
_INTERFACE = "en1"


def nanos_manifest(rootfs: MergedRootfs, files: Mapping[str, str], start: Start, network: Network) -> str:
    """`files` says where on this machine the content of each regular file is. Modes and owners have no place in it."""
    document: dict[str, Any] = {
        "children": _children(rootfs, files),
        "program": start.program,
        "arguments": list(start.arguments),
        "environment": dict(variable.split("=", 1) for variable in start.environment),
        "cwd": start.working_directory,
    }
    if network.mode == "static":
        interface = ipaddress.IPv4Interface(network.address)
        document[_INTERFACE] = {"ipaddr": str(interface.ip), "netmask": str(interface.netmask)}
        if network.gateway:
            document[_INTERFACE]["gateway"] = network.gateway
    return _written(document) + "\n"


def _children(rootfs: MergedRootfs, files: Mapping[str, str]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    directories = {"/": root}
    for path, entry in rootfs.entries.items():
        parent, name = posixpath.split(path)
        if stat.S_ISDIR(entry.mode):
            directories[path] = {}
            directories[parent][name] = {"children": directories[path]}
        elif entry.target is not None:
            directories[parent][name] = {"linktarget": entry.target}
        else:
            directories[parent][name] = {"contents": {"host": files[path]}}
    return root


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + " ".join(f"{_quoted(name)}:{_written(item)}" for name, item in value.items()) + ")"
    if isinstance(value, list):
        return "[" + " ".join(_quoted(item) for item in value) + "]"
    return _quoted(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
