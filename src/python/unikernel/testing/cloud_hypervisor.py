"""What cloud-hypervisor takes for options, as the VmConfig of its API that it makes of them.

No package of Debian, PyPI or npm has cloud-hypervisor or the definition of its API, so this grammar is written after its source: `--help`
(cloud-hypervisor/src/main.rs), the parser of options (option_parser/src/lib.rs), the keys of each (vmm/src/config.rs), and VmConfig
(vmm/src/api/openapi/cloud-hypervisor.yaml). Of options it has those that an image has a use for.
"""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Callable

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_MODES = {"off": "Off", "null": "Null", "pty": "Pty", "tty": "Tty"}


def vm_config(options: Sequence[str]) -> dict[str, Any]:
    """Of the words after the program's name. Raises ValueError for what it would refuse."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    # argparse would end the process.
    parser.error = _refuse  # type: ignore[assignment]
    for name in ("kernel", "cmdline", "cpus", "memory", "net", "serial", "console"):
        parser.add_argument(f"--{name}", action=_Once)
    parsed = parser.parse_args(list(options))
    if not parsed.kernel:
        raise ValueError("there is nothing to boot")
    payload = {"kernel": parsed.kernel, **({"cmdline": parsed.cmdline} if parsed.cmdline is not None else {})}
    cpus = _values(parsed.cpus or "boot=1", {"boot": int, "max": int})
    config: dict[str, Any] = {
        "payload": payload,
        "cpus": {"boot_vcpus": cpus["boot"], "max_vcpus": cpus.get("max", cpus["boot"])},
        "memory": _values(parsed.memory or "size=512M", {"size": _size}),
        "serial": {"mode": _mode(parsed.serial or "null")},
        "console": {"mode": _mode(parsed.console or "tty")},
    }
    if not 1 <= config["cpus"]["boot_vcpus"] <= config["cpus"]["max_vcpus"]:
        raise ValueError(f"there are no such CPUs: {parsed.cpus}")
    if parsed.net is not None:
        address = lambda text: str(ipaddress.ip_address(text))  # noqa: E731
        config["net"] = [_values(parsed.net, {"tap": _interface, "ip": address, "mask": address, "mac": _mac})]
    return config


class _Once(argparse.Action):
    """clap refuses an option that is there twice."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None) -> None:
        if getattr(namespace, self.dest) is not None:
            raise ValueError(f"{option} is there twice")
        setattr(namespace, self.dest, values)


def _refuse(message: str) -> None:
    raise ValueError(message)


def _values(text: str, keys: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    """KEY=VALUE,... where a comma in quotes or brackets is part of a value."""
    values = {}
    for word in _split(text):
        key, equals, value = word.partition("=")
        if key not in keys or not equals:
            raise ValueError(f"unknown option: {word}")
        values[key] = keys[key](value.strip().replace('"', ""))
    return values


def _split(text: str) -> list[str]:
    words, depth, quoted = [""], 0, False
    for letter in text.strip():
        if letter == '"':
            quoted = not quoted
        elif not quoted:
            depth += {"[": 1, "]": -1}.get(letter, 0)
            if depth < 0:
                break
            if letter == "," and depth == 0:
                words.append("")
                continue
        words[-1] += letter
    if quoted or depth:
        raise ValueError(f"invalid syntax: {text}")
    return words


def _size(text: str) -> int:
    match = re.fullmatch("([0-9]+)([KMG]?)", text)
    if match is None:
        raise ValueError(f"no size: {text}")
    return int(match[1]) * _UNITS[match[2]]


def _mode(text: str) -> str:
    if text not in _MODES:
        raise ValueError(f"no console: {text}")
    return _MODES[text]


def _interface(text: str) -> str:
    # IFNAMSIZ, with its NUL.
    if not 0 < len(text.encode()) < 16 or re.search(r"[\s/]", text):
        raise ValueError(f"no interface: {text}")
    return text


def _mac(text: str) -> str:
    if not re.fullmatch("([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text):
        raise ValueError(f"no MAC address: {text}")
    return text
