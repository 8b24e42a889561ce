"""`[unikernel-images]`: which images are proposed and packaged, and what the log lists of them."""

from __future__ import annotations

from enum import Enum

from pants.option.option_types import BoolOption, EnumOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


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
