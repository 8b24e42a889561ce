"""cloud-hypervisor's command, as a script: its options are those of `cloud-hypervisor --help` and docs/memory.md, docs/cpu.md and others of
github.com/cloud-hypervisor/cloud-hypervisor.
"""

from __future__ import annotations

import os
import shlex

from unikernel.hypervisors import HYPERVISORS
from unikernel.hypervisors.machine import Machine, notes

# The image is beside it, wherever it is called from.
_TO_ITS_DIRECTORY = 'cd -- "$(dirname -- "$0")" || exit'
_FURTHER_OPTIONS = '"$@"'


def command(machine: Machine) -> list[str]:
    """An attachment has no characters that are options' own."""
    argv = ["cloud-hypervisor", "--kernel", machine.image]
    if machine.command_line:
        # One word, which may begin with a hyphen.
        argv.append(f"--cmdline={machine.command_line}")
    argv += ["--cpus", f"boot={machine.cpus}", "--memory", f"size={machine.memory}M"]
    if machine.has_network:
        argv += ["--net", f"tap={machine.attachment}"]
    # By default it shows its virtio console, for which the image has no driver.
    return [*argv, "--serial", "tty", "--console", "off"]


def configuration(machine: Machine) -> str:
    comments = [f"# {line}" for line in notes(machine, HYPERVISORS["cloud-hypervisor"])]
    directory = [] if os.path.isabs(machine.image) else [_TO_ITS_DIRECTORY]
    execution = " ".join(["exec", shlex.join(command(machine)), _FURTHER_OPTIONS])
    return "\n".join(["#!/bin/sh", *comments, *directory, execution, ""])
