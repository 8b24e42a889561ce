"""`[unikernel-run]`: how `pants run` boots images."""

from __future__ import annotations

from enum import Enum

from pants.option.option_types import BoolOption, EnumOption, StrOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class Accelerator(Enum):
    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class LogFormat(Enum):
    PLAIN = "plain"
    JSON = "json"


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

    machine = StrOption(
        default=None,
        help=softwrap(
            """
            The machine that images are booted on, such as `q35`: one of those that their library OS is booted on (see
            docs/library-os.md). Without it, its first.
            """
        ),
    )
    vmm = StrOption(
        default=None,
        help=softwrap(
            """
            The program that boots images, in place of the machine's own (`qemu-system-x86_64`, ...): a path, or a name on `PATH`. It takes
            the same arguments.
            """
        ),
    )
    debug = BoolOption(
        default=False,
        help=softwrap(
            """
            Wait for gdb before the machine's first instruction, and print the command that attaches it, with the symbols of kernel and
            application (`run --debug-adapter` does the same). See docs/debugging.md.
            """
        ),
    )
    log_format = EnumOption(
        default=LogFormat.PLAIN,
        help="How what the image prints is written: as it comes, or each line in JSON, with time, stream and the image's digest.",
    )

    @property
    def arguments(self) -> tuple[str, ...]:
        """Those of `unikernel run`."""
        return (
            f"--accel={self.accel.value}",
            *([f"--machine={self.machine}"] if self.machine else []),
            *([f"--vmm={self.vmm}"] if self.vmm else []),
            f"--log-format={self.log_format.value}",
        )
