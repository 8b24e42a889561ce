"""`[unikernel-tests]`: how `pants test` boots images."""

from __future__ import annotations

from pants.option.option_types import IntOption, SkipOption
from pants.option.subsystem import Subsystem


class UnikernelTest(Subsystem):
    options_scope = "unikernel-tests"
    name = "unikernel tests"
    help = "How unikernel images are tested. `[unikernel-run].accel` says what boots them."

    skip = SkipOption("test")
    console_lines = IntOption(
        default=500,
        help="How many lines of the console's end are shown of a test that fails. All of it is in the test's `console.log` and report.",
    )
