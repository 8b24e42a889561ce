"""The `library_os` target: a library OS of a repository's own, or the kernel and the tools of one that comes along."""

from __future__ import annotations

from collections.abc import Iterable

from pants.engine.addresses import Address, UnparsedAddressInputs
from pants.engine.target import (
    COMMON_TARGET_FIELDS,
    AsyncFieldMixin,
    DictStringToStringField,
    InvalidFieldException,
    OptionalSingleSourceField,
    Target,
)
from pants.util.frozendict import FrozenDict
from pants.util.strutil import help_text


class LibraryOsDescriptionField(OptionalSingleSourceField):
    alias = "description_file"
    expected_file_extensions = (".yaml",)
    help = help_text(
        """
        The description of the library OS, a YAML file beside the BUILD file: see docs/library-os.md. Without it, the one of the target's
        name that comes along.
        """
    )


class LibraryOsInputsField(AsyncFieldMixin, DictStringToStringField):
    alias = "inputs"
    help = help_text(
        """
        What the description needs, by its names: addresses of targets with one file each, such as a `file` with an `http_source`, or
        anything that is packaged into one file. Programs that are not here are looked for on PATH.

        Example: `inputs={"kernel": ":kernel.img", "mkfs": ":mkfs"}`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: dict[str, str] | None, address: Address) -> FrozenDict[str, str] | None:
        value = super().compute_value(raw_value, address)
        for name, target in (value or {}).items():
            if not name or not target:
                raise InvalidFieldException(f"The `{cls.alias}` field in target {address} is not valid: an empty name or address.")
        return value

    def to_unparsed_address_inputs(self) -> UnparsedAddressInputs:
        return UnparsedAddressInputs(
            [target for _, target in sorted((self.value or {}).items())],
            owning_address=self.address,
            description_of_origin=f"the `{self.alias}` field in the `{LibraryOsTarget.alias}` target {self.address}",
        )


class LibraryOsTarget(Target):
    alias = "library_os"
    core_fields = (*COMMON_TARGET_FIELDS, LibraryOsDescriptionField, LibraryOsInputsField)
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
