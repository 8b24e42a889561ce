"""`[unikernel-signing]`: what signs images."""

from __future__ import annotations

from enum import Enum

from pants.option.option_types import EnumOption, IntOption, ShellStrListOption, StrOption
from pants.option.subsystem import Subsystem
from pants.util.strutil import softwrap


class SigningMode(Enum):
    OFF = "off"
    DEVELOPMENT = "development"
    REQUIRED = "required"


class UnikernelSigning(Subsystem):
    options_scope = "unikernel-signing"
    name = "unikernel signing"
    help = softwrap(
        """
        What signs unikernel images: a key in a file, or a command that has one.

        Images are built unsigned and cached; signing is the last step, in Pants' own process. A key is read when something is signed; it
        never enters a sandbox or a cache. Another key builds nothing again.
        """
    )

    mode = EnumOption(
        default=SigningMode.DEVELOPMENT,
        help=softwrap(
            """
            `off`: nothing is signed. `development`: what is configured signs, and without that, a development key of this user, which
            is made once; verification refuses such a key unless it is told to accept it. `required`: a key or a command has to be
            configured, and the commit of the sources known, or nothing is packaged.
            """
        ),
    )

    key = StrOption(
        default=None,
        help=softwrap(
            """
            The path of a private key, ECDSA on P-256 or Ed25519: a PEM file, encrypted or not, or cosign's own key file. Relative paths
            are below the build root; keep keys out of it.
            """
        ),
    )

    password_env = StrOption(
        default="COSIGN_PASSWORD",
        advanced=True,
        help="The environment variable that has the password of an encrypted key.",
    )

    password_file = StrOption(
        default=None,
        advanced=True,
        help="The path of a file that has the password of an encrypted key, on one line. It goes before the environment variable.",
    )

    command = ShellStrListOption(
        default=[],
        help=softwrap(
            """
            A command that signs, such as the client of a key management service: it reads a SHA-256 digest in hex from its standard input
            and prints an ECDSA signature (P-256, ASN.1 DER) in base64. It runs on this machine, in the build root, with the environment
            that Pants was started with. `public_key` names the key that it signs with.
            """
        ),
    )

    command_timeout = IntOption(
        default=60,
        advanced=True,
        help="How long one call of `command` may take, in seconds.",
    )

    public_key = StrOption(
        default=None,
        help="The path of the public key, a PEM file: needed with `command`, and read from `key` otherwise.",
    )
