"""The `library_os` target: a library OS of a repository's own, or the kernel and the tools of one that comes along."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Optional

from pants.engine.addresses import Address
from pants.engine.target import (
    COMMON_TARGET_FIELDS,
    DictStringToStringField,
    InvalidFieldException,
    OptionalSingleSourceField,
    StringField,
    Target,
)
from pants.util.frozendict import FrozenDict
from pants.util.strutil import help_text

from pants_unikernel.address_fields import AddressesFieldMixin

_SHA256 = re.compile("[0-9a-f]{64}")


class LibraryOsDescriptionField(OptionalSingleSourceField):
    alias = "description_file"
    expected_file_extensions = (".yaml",)
    help = help_text(
        """
        The description of the library OS, a YAML file beside the BUILD file: see docs/library-os.md. Without it, the one of the target's
        name that comes along.
        """
    )


class LibraryOsInputsField(AddressesFieldMixin, DictStringToStringField):
    alias = "inputs"
    target_alias = "library_os"
    help = help_text(
        """
        What the description needs, by its names: addresses of targets with one file each, such as a `file` with an `http_source`, or
        anything that is packaged into one file. Programs that are not here are looked for on PATH.

        Example: `inputs={"kernel": ":kernel.img", "mkfs": ":mkfs"}`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[dict[str, str]], address: Address) -> Optional[FrozenDict[str, str]]:
        value = super().compute_value(raw_value, address)
        for name, target in (value or {}).items():
            if not name or not target:
                raise InvalidFieldException(f"The `{cls.alias}` field in target {address} is not valid: an empty name or address.")
        return value

    @property
    def addresses(self) -> Iterable[str]:
        return [target for _, target in sorted((self.value or {}).items())]


class LibraryOsDigestsField(DictStringToStringField):
    alias = "sha256"
    help = help_text(
        """
        The SHA-256 digests, in hex, that `inputs` must have, by their names. Whatever brings a file, a file of another digest is refused.

        Example: `sha256={"kernel": "0a3b..."}`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[dict[str, str]], address: Address) -> Optional[FrozenDict[str, str]]:
        value = super().compute_value(raw_value, address)
        for name, digest in (value or {}).items():
            if not _SHA256.fullmatch(digest):
                raise InvalidFieldException(
                    f"The `{cls.alias}` field in target {address} is not valid: the digest of {name}, {digest!r}, is not 64 hex digits."
                )
        return value


class LibraryOsVersionField(StringField):
    alias = "version"
    help = "The version of the library OS that `inputs` are of: it is in the images' manifests and SBOMs, and in a policy for them."


class LibraryOsTarget(Target):
    alias = "library_os"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        LibraryOsDescriptionField,
        LibraryOsInputsField,
        LibraryOsDigestsField,
        LibraryOsVersionField,
    )
    help = help_text(
        """
        A library OS that images can name by this target's name: what it needs to make and boot them.

        Example:

            file(name="kernel.img", source=http_source(url="...", len=1, sha256="..."))

            library_os(
              name="mine",
              description_file="mine.yaml",
              inputs={"kernel": ":kernel.img"},
            )

            unikernel_image(name="unikernel", app=":service", library_os="mine")
        """
    )


def target_types() -> Iterable[type[Target]]:
    return (LibraryOsTarget,)
