"""`[unikernel-images]`: which images are proposed."""

from __future__ import annotations

from pants.option.option_types import BoolOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class UnikernelImages(Subsystem):
    options_scope = "unikernel-images"
    name = "unikernel images"
    help = "Unikernel images, and which of them `tailor` proposes."

    tailor = BoolOption(
        default=True,
        help=softwrap(
            """
            If true, `tailor` proposes a `unikernel_image` target for each `pex_binary`, `docker_image`, `cc_binary` and `go_binary` that no
            image has as its `app`.
            """
        ),
        advanced=True,
    )
    tailor_readiness = BoolOption(
        default=True,
        help=softwrap(
            """
            If true, `tailor` looks at an application before it proposes an image of it, as the goal `unikernel-readiness` does, and is
            quiet for one that cannot work. That packages the application.
            """
        ),
        advanced=True,
    )
