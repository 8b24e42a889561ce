"""Verifies an image with the files that were made beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, TypeVar

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.image.contents import check_contents
from unikernel.image.manifest import read_manifest, to_json
from unikernel.image.manifest_pb2 import Manifest
from unikernel.signing.attestation import Attestation, verify_attestation
from unikernel.signing.bundle import verify_bundle
from unikernel.signing.documents import parse, read
from unikernel.signing.files import SBOM_TYPES, bundle_path, manifest_path, provenance_path, sbom_attestation_path, sbom_path
from unikernel.signing.keys import Message, PublicKey
from unikernel.signing.policy import Policy
from unikernel.signing.provenance import PREDICATE_TYPE, byproducts_of, inputs_of, is_by_development_key, source_of

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Check:
    """`failure` is None for one that holds."""

    name: str
    failure: str | None = None


@dataclass
class Verification:
    image: Path
    sha256: str = ""
    key: str = ""
    checks: list[Check] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return bool(self.checks) and all(check.failure is None for check in self.checks)

    def failures(self) -> list[str]:
        return [f"{check.name}: {check.failure}" for check in self.checks if check.failure is not None]

    def to_document(self) -> dict[str, Any]:
        checks = [{"name": check.name, "holds": check.failure is None, "failure": check.failure} for check in self.checks]
        return {"image": str(self.image), "sha256": self.sha256, "key": self.key, "holds": self.holds, "checks": checks}

    def to_text(self) -> str:
        lines = [f"{self.image}: {'verified' if self.holds else 'NOT VERIFIED'}"]
        lines += [f"  sha256  {self.sha256}"] if self.sha256 else []
        lines += [f"  key     {self.key}"] if self.key else []
        lines += [
            f"  {'ok' if check.failure is None else 'FAILED':<6}  {check.name}" + (f": {check.failure}" if check.failure else "")
            for check in self.checks
        ]
        return "\n".join(lines) + "\n"


def verify_image(image: Path, keys: Sequence[PublicKey], policy: Policy) -> Verification:
    """All checks, each with its outcome. Raises UnikernelError only when the image itself cannot be read."""
    result = Verification(image)
    message = _message(image)
    result.sha256 = message.sha256.hex()

    def check(name: str, verify: Callable[..., _Value], *arguments: Any) -> _Value | None:
        try:
            value = verify(*arguments)
        except UnikernelError as error:
            result.checks.append(Check(name, str(error).rstrip(".")))
            return None
        result.checks.append(Check(name))
        return value

    key = check("signature of the image", _signer, Path(bundle_path(str(image))), message, keys)
    if key is not None:
        result.key = key.fingerprint
        check("signer", policy.check_key, key.fingerprint)
    manifest = check("manifest in the image", _manifest, image)
    if manifest is not None:
        check("library OS", policy.check_library_os, manifest.library_os.name, manifest.library_os.version)
    provenance = check("provenance", _attestation, Path(provenance_path(str(image))), result.sha256, keys, policy, PREDICATE_TYPE)
    if provenance is not None:
        predicate = provenance.predicate
        check("kind of the key", policy.check_development_key, is_by_development_key(predicate))
        check("source", policy.check_source, source_of(predicate))
        if manifest is not None:
            check("provenance and manifest", _check_inputs, predicate, manifest)
        for path in (_manifest_beside(image), *(_sbom(image, kind) for kind in SBOM_TYPES)):
            check(f"provenance and {path.name}", _check_byproduct, predicate, path)
    for kind, predicate_type in SBOM_TYPES.items():
        path = _sbom(image, kind)
        name = f"attestation of {path.name}"
        beside = Path(sbom_attestation_path(str(image), kind))
        attested = check(name, _attestation, beside, result.sha256, keys, policy, predicate_type)
        if attested is not None:
            check(f"{path.name} as attested", _check_sbom, attested, path)
    return result


def _signer(bundle: Path, message: Message, keys: Sequence[PublicKey]) -> PublicKey:
    return verify_bundle(_read(bundle), message, keys, str(bundle))


def _sbom(image: Path, kind: str) -> Path:
    return Path(sbom_path(str(image), kind))


def _manifest_beside(image: Path) -> Path:
    return Path(manifest_path(str(image)))


def _message(image: Path) -> Message:
    try:
        return Message(bytes.fromhex(file_sha256(image)), image.read_bytes)
    except OSError as error:
        raise UnikernelError(f"{image} cannot be read: {error.strerror}.") from error


def _read(path: Path) -> bytes:
    return read(path, str(path))


def _manifest(image: Path) -> Manifest:
    manifest = read_manifest(image)
    check_contents(image, manifest)
    beside = _manifest_beside(image)
    if _read(beside) != to_json(manifest).encode():
        raise UnikernelError(f"{beside} is not the manifest that is in the image.")
    return manifest


def _attestation(path: Path, sha256: str, keys: Sequence[PublicKey], policy: Policy, predicate_type: str) -> Attestation:
    attestation, key = verify_attestation(_read(path), sha256, keys, str(path))
    policy.check_key(key.fingerprint)
    if attestation.predicate_type != predicate_type:
        raise UnikernelError(f"{path} attests {attestation.predicate_type}, not {predicate_type}.")
    return attestation


def _check_inputs(predicate: Mapping[str, Any], manifest: Manifest) -> None:
    """Everything that the manifest says went in is a dependency in the provenance, by name and digest."""
    inputs = inputs_of(predicate)
    for item in manifest.inputs:
        if inputs.get(item.name) != item.sha256:
            raise UnikernelError(f"The provenance does not have the input {item.name!r} as the manifest has it.")


def _check_byproduct(predicate: Mapping[str, Any], path: Path) -> None:
    if byproducts_of(predicate).get(path.name) != hashlib.sha256(_read(path)).hexdigest():
        raise UnikernelError(f"{path} is not the file that the provenance names.")


def _check_sbom(attestation: Attestation, path: Path) -> None:
    if parse(_read(path), str(path)) != attestation.predicate:
        raise UnikernelError(f"{path} is not the document that was attested.")
