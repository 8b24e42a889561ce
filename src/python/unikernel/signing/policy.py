"""What a verifier demands of an image, beyond that all signatures hold.

A JSON file; all members may be left out:

    {
      "keys": ["<SHA-256 of a public key, hex>"],
      "source": {"repository": "https://...", "commit": "<hex>", "clean": true},
      "library_os": {"name": "linux", "minimum_version": "6.1.100"},
      "development_keys": false
    }
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unikernel.errors import UnikernelError
from unikernel.signing.documents import parse, read
from unikernel.signing.provenance import Source

_FINGERPRINT = re.compile("[0-9a-f]{64}")
_VERSION = re.compile(r"\d+(\.\d+)*")
_LARGEST = 1 << 20


@dataclass(frozen=True)
class Policy:
    """Empty members demand nothing. `development_keys` tells whether keys that nobody configured are accepted."""

    keys: Sequence[str] = ()
    repository: str = ""
    commit: str = ""
    clean: bool = False
    library_os: str = ""
    minimum_version: str = ""
    development_keys: bool = False

    @classmethod
    def read(cls, path: Path) -> Policy:
        return cls.parse(read(path, f"The policy {path}", _LARGEST), str(path))

    @classmethod
    def parse(cls, content: bytes, name: str) -> Policy:
        """Raises UnikernelError for what it does not know: a demand must not be passed over for a spelling mistake."""
        reader = _Reader(f"The policy {name}")
        document = reader.members(parse(content, f"The policy {name}"), "", {"keys", "source", "library_os", "development_keys"})
        source = reader.members(document.get("source", {}), "source", {"repository", "commit", "clean"})
        library_os = reader.members(document.get("library_os", {}), "library_os", {"name", "minimum_version"})
        return cls(
            keys=reader.fingerprints(document.get("keys", [])),
            repository=reader.text(source, "repository", re.compile(".+")),
            commit=reader.text(source, "commit", re.compile("[0-9a-f]{40}|[0-9a-f]{64}")),
            clean=reader.flag(source, "clean"),
            library_os=reader.text(library_os, "name", re.compile("[a-z0-9-]+")),
            minimum_version=reader.text(library_os, "minimum_version", _VERSION),
            development_keys=reader.flag(document, "development_keys"),
        )

    def check_key(self, fingerprint: str) -> None:
        if self.keys and fingerprint not in self.keys:
            raise UnikernelError(f"the policy does not name the key {fingerprint}")

    def check_development_key(self, is_development: bool) -> None:
        if is_development and not self.development_keys:
            raise UnikernelError("it is signed with a development key, and those are not allowed here")

    def check_source(self, source: Source | None) -> None:
        if source is None:
            if self.repository or self.commit or self.clean:
                raise UnikernelError("the policy demands a source, and the provenance names none")
            return
        if self.repository and source.uri != self.repository:
            raise UnikernelError(
                f"the source is {source.uri or 'of an unknown repository'}, and the policy demands {self.repository}"
            )
        if self.commit and source.commit != self.commit:
            raise UnikernelError(f"the source is commit {source.commit}, and the policy demands {self.commit}")
        if self.clean and source.dirty:
            raise UnikernelError(f"the source differed from its commit {source.commit}, which the policy forbids")

    def check_library_os(self, name: str, version: str) -> None:
        if self.library_os and name != self.library_os:
            raise UnikernelError(f"the library OS is {name}, and the policy demands {self.library_os}")
        if self.minimum_version and _numbers(version) < _numbers(self.minimum_version):
            raise UnikernelError(f"the library OS is {name} {version}, and the policy demands at least {self.minimum_version}")


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version starts with: "6.1.192-rc1" is (6, 1, 192). Trailing zeros do not matter."""
    match = _VERSION.match(version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@dataclass(frozen=True)
class _Reader:
    name: str

    def members(self, value: Any, where: str, known: set[str]) -> Mapping[str, Any]:
        of = f" of {where!r}" if where else ""
        if not isinstance(value, dict):
            raise UnikernelError(f"{self.name}: {where!r} is no object.")
        for member in value:
            if member not in known:
                raise UnikernelError(f"{self.name}: there is no member {member!r}{of}; there are {', '.join(sorted(known))}.")
        return value

    def fingerprints(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and _FINGERPRINT.fullmatch(item) for item in value):
            raise UnikernelError(f"{self.name}: 'keys' is no list of fingerprints (64 hexadecimal digits each).")
        return tuple(value)

    def text(self, members: Mapping[str, Any], member: str, form: re.Pattern[str]) -> str:
        if member not in members:
            return ""
        value = members[member]
        if not isinstance(value, str) or not form.fullmatch(value):
            raise UnikernelError(f"{self.name}: {member!r} cannot be {value!r}.")
        return value

    def flag(self, members: Mapping[str, Any], member: str) -> bool:
        value = members.get(member, False)
        if not isinstance(value, bool):
            raise UnikernelError(f"{self.name}: {member!r} is true or false, not {value!r}.")
        return value
