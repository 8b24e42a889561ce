"""`[unikernel-images]`: options on the images that `tailor` proposes."""

from __future__ import annotations

from pants.option.option_types import BoolOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap

# The tag of targets that `tailor` leaves out.
OPT_OUT_TAG = "no-unikernel-image"


class UnikernelImages(Subsystem):
    options_scope = "unikernel-images"
    name = "unikernel images"
    help = "Unikernel images, and which of them `tailor` proposes."

    tailor = BoolOption(
        default=True,
        help=softwrap(
            f"""
            If true, `tailor` proposes a `unikernel_image` target for each service that no image has
            as its `app`. A service is a `pex_binary`, `cc_binary`, `go_binary` or `docker_image`
            that serves a web framework's application, listens on a port, or starts a known server,
            by its targets and sources: `tailor` builds nothing to decide. It proposes one image for
            a program and the `docker_image` made of it. It leaves out command-line tools, tests,
            Docker images that others start from, and targets with the tag `{OPT_OUT_TAG}`.
            `-ldebug` logs each decision.
            """
        ),
        advanced=True,
    )
    tailor_check = BoolOption(
        default=False,
        help=softwrap(
            """
            If true, `tailor --check` fails while `tailor` would propose an image. By default it
            only logs those services: a service without an image is nothing to fix, and a pipeline
            that runs `tailor --check` does not fail because this backend is enabled.
            """
        ),
        advanced=True,
    )
