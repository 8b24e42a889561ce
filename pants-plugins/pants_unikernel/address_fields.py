"""Fields that name other targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from pants.engine.addresses import UnparsedAddressInputs
from pants.engine.target import AsyncFieldMixin, StringField


class AddressesFieldMixin(AsyncFieldMixin, ABC):
    """`target_alias` is that of the target that has the field."""

    target_alias: ClassVar[str]

    @property
    @abstractmethod
    def addresses(self) -> Iterable[str]:
        """As they are written in the BUILD file."""

    def to_unparsed_address_inputs(self) -> UnparsedAddressInputs:
        return UnparsedAddressInputs(
            self.addresses,
            owning_address=self.address,
            description_of_origin=f"the `{self.alias}` field in the `{self.target_alias}` target {self.address}",
        )


class AddressField(AddressesFieldMixin, StringField):
    """Names one target."""

    required = True
    value: str

    @property
    def addresses(self) -> Iterable[str]:
        return (self.value,)


class ImageAddressField(AddressField):
    """Names the `unikernel_image` that a target is about."""

    alias = "image"
