"""Xen's configuration of a PVH guest, for `xl create`: xl.cfg(5) and xl-network-configuration(5). Paths are relative to the directory that xl
is called in.
"""

from __future__ import annotations

from unikernel.hypervisors import HYPERVISORS
from unikernel.hypervisors.machine import Machine, notes


def configuration(machine: Machine) -> str:
    settings: list[tuple[str, str]] = [
        ("name", _quoted(machine.name)),
        ("type", _quoted("pvh")),
        ("kernel", _quoted(machine.image)),
    ]
    if machine.command_line:
        settings.append(("cmdline", _quoted(machine.command_line)))
    settings += [("memory", str(machine.memory)), ("vcpus", str(machine.cpus))]
    if machine.has_network:
        settings.append(("vif", f"[{_quoted(f'bridge={machine.attachment}')}]"))
    # The image ends when its application does, by whatever way its kernel has.
    settings += [(event, _quoted("destroy")) for event in ("on_poweroff", "on_reboot", "on_crash")]
    comments = [f"# {line}\n" for line in notes(machine, HYPERVISORS["xl"])]
    return "".join([*comments, *(f"{key} = {value}\n" for key, value in settings)])


def _quoted(text: str) -> str:
    """tools/libs/util/libxlu_cfg_l.l and xlu__cfgl_dequote of xen.git: a backslash is before quotes and backslashes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
