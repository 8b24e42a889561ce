"""`[unikernel-run]`: how `pants run` boots images."""

from __future__ import annotations

from enum import Enum

from pants.option.option_types import EnumOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class Accelerator(Enum):
    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class UnikernelRun(Subsystem):
    options_scope = "unikernel-run"
    name = "unikernel run"
    help = "How unikernel images are booted on this machine."

    accel = EnumOption(
        default=Accelerator.AUTO,
        help=softwrap(
            """
            QEMU's accelerator. `auto` takes KVM where it proves to run a guest (a /dev/kvm that is there may still not), and QEMU's own
            emulation, TCG, everywhere else.
            """
        ),
    )
