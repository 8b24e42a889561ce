"""`[unikernel-linux]`: Linux as a library OS."""

from __future__ import annotations

from pants.option.option_types import BoolOption, StrListOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap

# Of the option `kits`: the directory that `unikernel kit import` writes to.
IMPORTED_KITS = "<IMPORTED>"


class UnikernelLinux(Subsystem):
    options_scope = "unikernel-linux"
    name = "Linux library OS"
    help = softwrap(
        """
        Linux in unikernel form: where its source is, and what compiles it.

        The kernel is compiled once for each configuration into a kit; images are linked with it.
        """
    )

    source = StrListOption(
        default=[
            "/usr/src/linux-source-6.1.tar.xz",
            "/usr/src/linux-source-6.12.tar.xz",
            "/usr/src/linux-source-*.tar.xz",
        ],
        help=softwrap(
            """
            Where the kernel's source is: paths or globs of tarballs on this machine, or addresses (with `//`) of targets that have one,
            such as a `file` with an `http_source`. The first that is there is used. Debian's packages `linux-source-*` have such
            tarballs; those of kernel.org work as well.
            """
        ),
    )

    kernel_config = StrListOption(
        default=[],
        help=softwrap(
            """
            Kernel options for all images, on top of the base configuration and below the `kernel_config` field of a target.

            Example: `["CONFIG_IPV6=y"]`
            """
        ),
    )

    kits = StrListOption(
        default=[IMPORTED_KITS],
        help=softwrap(
            f"""
            Where prebuilt kits are, which stand in for compilers and a kernel source: paths or
            globs of archives named `CACHE-KEY.kit`, directories with such archives, or addresses
            (with `//`) of `file` or `files` targets. `{IMPORTED_KITS}` is the directory that
            `unikernel kit import` writes to. Each kit has its bundle, `CACHE-KEY.kit.sigstore.json`,
            beside it. Targets are searched first, then the other entries in their order. Without a
            kit for a configuration, the kernel is compiled. See docs/kit.md.
            """
        ),
    )

    kit_keys = StrListOption(
        default=[],
        help="Paths of the public keys (PEM) that may sign prebuilt kits. Without a key, no kit is used.",
    )

    allow_development_keys = BoolOption(
        default=False,
        advanced=True,
        help="Accept prebuilt kits that one of `kit_keys` signed as a development key.",
    )

    init_compiler = StrListOption(
        default=["musl-gcc", "gcc"],
        advanced=True,
        help=softwrap(
            """
            The C compilers for PID 1, most preferred first. It is linked statically: with musl it takes a twentieth of the space that it
            takes with glibc.
            """
        ),
    )

    class EnvironmentAware(Subsystem.EnvironmentAware):
        env_vars_used_by_options = ("PATH",)

        _search_path = StrListOption(
            default=["<PATH>"],
            advanced=True,
            help=softwrap(
                """
                Directories that are searched for compilers, linkers and other tools. `<PATH>` stands for the contents of the PATH
                environment variable.
                """
            ),
        )

        @property
        def search_path(self) -> tuple[str, ...]:
            directories: list[str] = []
            for entry in self._search_path:
                if entry == "<PATH>":
                    directories += self._options_env.get("PATH", "").split(":")
                else:
                    directories.append(entry)
            return tuple(dict.fromkeys(directory for directory in directories if directory))
