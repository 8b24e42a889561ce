"""`[unikernel-images]`: which images are proposed and packaged, and what the log lists of them."""

from __future__ import annotations

from enum import Enum

from pants.option.option_types import BoolOption, EnumOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap

# The tag of targets that `tailor` leaves out.
OPT_OUT_TAG = "no-unikernel-image"


class MissingTools(Enum):
    ERROR = "error"
    SKIP = "skip"


class UnikernelImages(Subsystem):
    options_scope = "unikernel-images"
    name = "unikernel images"
    help = "Which unikernel images `tailor` proposes and `package` makes, and what `package` logs."

    missing_tools = EnumOption(
        default=MissingTools.ERROR,
        help=softwrap(
            """
            What `package` does with an image whose library OS needs programs that the host lacks, such as a cross compiler: `error`
            fails, `skip` logs the image with what is missing and packages the others. `run`, `test` and `publish` of such an image
            fail either way. Set `skip` where developers package `::` without all toolchains, and `error` in CI.
            """
        ),
    )

    list_files = BoolOption(
        default=False,
        help=softwrap(
            """
            If true, `package` logs each file that it writes beside an image (manifests, SBOMs, signatures, layouts, debug files). By
            default it logs one entry per image.
            """
        ),
    )

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
            `--no-pantsd -ldebug` logs each decision.
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
