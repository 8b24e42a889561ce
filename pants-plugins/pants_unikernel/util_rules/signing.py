"""The last step of packaging: signatures and attestations, made in Pants' own process over digests.

No process, digest or environment of the engine has a key in it: what is beside an image when it was signed is all that leaves here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Optional

from pants.base.build_root import BuildRoot
from pants.core.util_rules.distdir import DistDir
from pants.engine.env_vars import CompleteEnvironmentVars
from pants.engine.fs import Digest, FileContent
from pants.engine.internals.session import SessionValues
from pants.engine.rules import Rule, collect_rules
from pants.engine.target import Field
from pants.engine.unions import UnionRule
from pants.option.global_options import GlobalOptions
from pants.version import VERSION as PANTS_VERSION

from pants_unikernel import engine
from pants_unikernel.dist_files import DistFiles, dist_state
from pants_unikernel.image_types import BuiltImage, BuiltLayout, Toolkit
from pants_unikernel.package_types import OwnPackageFieldSet
from pants_unikernel.subsystems.signing import SigningMode, UnikernelSigning
from pants_unikernel.util_rules.failures import UnikernelBuildError, errors_of
from unikernel import __version__
from unikernel.errors import UnikernelError
from unikernel.signing.development_key import development_key_path, load_development_key
from unikernel.signing.files import SBOM_TYPES, manifest_path, sbom_path, signature_paths, signatures_path
from unikernel.signing.keys import Message, PasswordNeeded, PrivateKey, PublicKey, readable_by_others
from unikernel.signing.oci_signatures import SignedImage, sign_in_registry
from unikernel.signing.provenance import PREDICATE_TYPE, Artifact, Build, Source, provenance_predicate
from unikernel.signing.sign import sign_image
from unikernel.signing.signer import CommandSigner, Signer
from unikernel.signing.worktree import source_of_worktree

logger = logging.getLogger(__name__)

_SCOPE = "[unikernel-signing]"
_KEY = "signing-key.pub"
_VERSIONS = {"pants": PANTS_VERSION, "pants-unikernel": __version__, "unikernel": __version__}


@dataclass(frozen=True)
class ImageSigner:
    """What signs in this run. It is compared by what it writes: with the same key in the same state of the sources, nothing is signed
    again.

    `signer` is None when nothing is to be signed. `previous` is where an earlier run wrote its packages, and `written` what is remembered of
    that.
    """

    fingerprint: str
    public_key: str
    is_development: bool
    source: Optional[Source]
    previous: Path
    written: DistFiles = field(compare=False, repr=False)
    signer: Optional[Signer] = field(compare=False, repr=False)

    def previous_files(self, directory: str) -> Callable[[str], Optional[bytes]]:
        """Reads what an earlier run wrote to a directory of packages, by the path in it."""

        def read(path: str) -> Optional[bytes]:
            try:
                return (self.previous / directory / path).read_bytes()
            except OSError:
                return None

        return read


# Not cached: a key, its password and the state of the sources are no inputs that the engine knows of.
@engine.uncacheable_rule(desc="Find what signs unikernel images")
async def find_image_signer(
    options: UnikernelSigning,
    global_options: GlobalOptions,
    build_root: BuildRoot,
    dist_dir: DistDir,
    session_values: SessionValues,
) -> ImageSigner:
    root = build_root.pathlib_path
    environment = session_values[CompleteEnvironmentVars]
    previous = root / dist_dir.relpath
    written = DistFiles(previous, dist_state(Path(global_options.pants_workdir)))
    if options.mode is SigningMode.OFF:
        return ImageSigner("", "", False, None, previous, written, None)
    signer = configured_signer(options, root, environment)
    is_development = signer is None
    if signer is None:
        signer = _development_signer(options, root, environment, global_options)
    ignored = [str(dist_dir.relpath), global_options.pants_workdir, str(global_options.pants_subprocessdir or "")]
    source = _source(options, root, environment, [path for path in ignored if path])
    return ImageSigner(signer.public.fingerprint, signer.public.pem, is_development, source, previous, written, signer)


def configured_signer(options: UnikernelSigning, root: Path, environment: Mapping[str, str]) -> Signer | None:
    """Raises UnikernelBuildError, with the option at fault, for what cannot sign. None when nothing is configured."""
    if options.key and options.command:
        raise UnikernelBuildError(f"{_SCOPE}: `key` and `command` are both set; one of them signs.")
    if options.command:
        if not options.public_key:
            raise UnikernelBuildError(f"{_SCOPE}.public_key: name the public key that `command` signs with.")
        with errors_of(f"{_SCOPE}.command"):
            public = PublicKey.load(user_path(options.public_key, root, environment))
            return CommandSigner(options.command, public, options.command_timeout, environment, root)
    if not options.key:
        return None
    path = user_path(options.key, root, environment)
    if readable_by_others(path):
        logger.warning(f"{_SCOPE}.key: {path} can be read by other users than its own; take that from them with: chmod 600 {path}")
    password = _password(options, root, environment)
    with errors_of(f"{_SCOPE}.key"):
        try:
            return PrivateKey.load(path, password)
        except PasswordNeeded as error:
            raise UnikernelError(
                f"{error} Set the environment variable {options.password_env}, or {_SCOPE}.password_file."
            ) from error


def _password(options: UnikernelSigning, root: Path, environment: Mapping[str, str]) -> bytes | None:
    if options.password_file:
        path = user_path(options.password_file, root, environment)
        if readable_by_others(path):
            logger.warning(f"{_SCOPE}.password_file: {path} can be read by other users than its own; chmod 600 {path}")
        try:
            return path.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            raise UnikernelBuildError(f"{_SCOPE}.password_file: {path} cannot be read: {error.strerror}.") from error
    password = environment.get(options.password_env)
    return password.encode("utf-8", "surrogateescape") if password is not None else None


def _development_signer(
    options: UnikernelSigning, root: Path, environment: Mapping[str, str], global_options: GlobalOptions
) -> Signer:
    if options.mode is SigningMode.REQUIRED:
        raise UnikernelBuildError(
            f'{_SCOPE}.mode is "required", and there is nothing to sign with: set {_SCOPE}.key to the path of a private key, or '
            f"{_SCOPE}.command to a command that signs."
        )
    caches = [global_options.pants_workdir, global_options.local_store_dir, str(global_options.named_caches_dir)]
    with errors_of(f"{_SCOPE}.key"):
        path = development_key_path(environment)
        for directory in (root, *(Path(root, cache).resolve() for cache in caches)):
            if directory in path.resolve().parents:
                raise UnikernelError(
                    f"Development keys are kept at {path}, which is in {directory}, where no private key may be: set XDG_CONFIG_HOME or "
                    "HOME to another directory, or configure a key."
                )
        is_new = not path.exists()
        key = load_development_key(path)
    if is_new:
        logger.info(f"Made a development key to sign unikernel images with: {path}")
    if readable_by_others(path):
        logger.warning(
            f"The development key {path} can be read by other users than its own; take that from them with: chmod 600 {path}"
        )
    return key


def _source(options: UnikernelSigning, root: Path, environment: Mapping[str, str], written: Sequence[str]) -> Source | None:
    """`written` is what Pants itself writes: it does not make a work tree dirty, be it ignored or not."""
    git = shutil.which("git", path=environment.get("PATH", os.defpath))
    inside = [os.path.relpath(Path(root, path), root) for path in written]
    try:
        if git is None:
            raise UnikernelError("there is no git on PATH.")
        return source_of_worktree(root, git, environment, [path for path in inside if not path.startswith("..")])
    except UnikernelError as error:
        if options.mode is SigningMode.REQUIRED:
            raise UnikernelBuildError(
                f'{_SCOPE}.mode is "required", and the commit that the sources are of cannot be told: {error}'
            ) from error
        logger.warning(f"The provenance of unikernel images names no source: {error}")
        return None


def trusted_key(options: UnikernelSigning, root: Path, environment: Mapping[str, str]) -> tuple[str, bool]:
    """The public key (PEM) of what signs here, and whether it is a development key. Nothing is made.

    Raises UnikernelBuildError when there is none.
    """
    if options.public_key:
        with errors_of(f"{_SCOPE}.public_key"):
            return PublicKey.load(user_path(options.public_key, root, environment)).pem, False
    signer = configured_signer(options, root, environment)
    if signer is not None:
        return signer.public.pem, False
    with errors_of(f"{_SCOPE}.key"):
        path = development_key_path(environment)
        if options.mode is not SigningMode.DEVELOPMENT or not path.exists():
            raise UnikernelError(
                "there is no key here that images could be signed with: name public keys, [unikernel-verify].keys."
            )
        return load_development_key(path).public.pem, True


def user_path(path: str, root: Path, environment: Mapping[str, str]) -> Path:
    """A path from an option: "~" is the user's home, as Pants' client has it, and relative paths are below the build root."""
    home = environment.get("HOME")
    if home and (path == "~" or path.startswith("~/")):
        path = home + path[1:]
    return Path(root, path)


async def trust_in(public_key: str, is_development: bool, directory: str = "") -> tuple[Digest, list[str]]:
    """A file with the public key (PEM), and the toolkit's options that trust it, for a process whose inputs are in `directory`."""
    options = [f"--key={os.path.join(directory, _KEY)}", *(["--allow-development-keys"] if is_development else [])]
    return await engine.create_digest([FileContent(_KEY, public_key.encode())]), options


# --- one image ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """What is said of an image. `manifest` and `sboms`, by kind, are documents as they are beside it."""

    build: Build
    manifest: bytes
    sboms: Mapping[str, bytes]

    @cached_property
    def sbom_predicates(self) -> dict[str, Mapping[str, Any]]:
        """By predicate types."""
        return {SBOM_TYPES[kind]: json.loads(sbom) for kind, sbom in self.sboms.items()}


async def statement_of(field_set: OwnPackageFieldSet, image: BuiltImage, signer: ImageSigner) -> Statement:
    sbom_paths = {kind: sbom_path(image.path, kind) for kind in SBOM_TYPES}
    files = await engine.file_contents(image.digest, [manifest_path(image.path), *sbom_paths.values()])
    manifest = files[manifest_path(image.path)]
    build = Build(
        target=str(field_set.address),
        fields=_written_fields(field_set),
        inputs=[*(Artifact(item["name"], item["sha256"]) for item in json.loads(manifest)["inputs"]), *image.inputs],
        source=signer.source,
        versions=_VERSIONS,
        development_key=signer.is_development,
    )
    return Statement(build, manifest, {kind: files[path] for kind, path in sbom_paths.items()})


def basis_of(field_set: OwnPackageFieldSet, image: BuiltImage, signer: ImageSigner, toolkit: Toolkit) -> str:
    """A digest of all that the files beside an image which vouch for it are made of, and of who makes them."""
    basis = [
        str(field_set.address),
        _written_fields(field_set),
        [image.path, image.digest.fingerprint, *(dataclasses.astuple(item) for item in image.inputs)],
        [signer.fingerprint, signer.is_development, dataclasses.astuple(signer.source) if signer.source else None],
        [_VERSIONS, toolkit.process.input_digest.fingerprint],
    ]
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()


async def previous_signatures(field_set: OwnPackageFieldSet, image: BuiltImage, basis: str, signer: ImageSigner) -> Digest | None:
    """What an earlier run made of the same, if that is still there as it was written. It was signed, or found to hold, then."""
    files = signer.written.read(str(field_set.address), basis, signature_paths(image.path))
    return await _files(files) if files is not None else None


async def _files(contents: Mapping[str, bytes]) -> Digest:
    return await engine.create_digest(FileContent(path, content) for path, content in contents.items())


async def sign(field_set: OwnPackageFieldSet, image: BuiltImage, statement: Statement, signer: ImageSigner) -> Digest:
    """What is beside the image to vouch for it."""
    assert signer.signer is not None
    # Only an Ed25519 key has to see all of it.
    content = b"" if signer.signer.public.signs_digests else await engine.file_content(image.digest, image.path)
    directory, name = os.path.split(image.path)
    message = Message(bytes.fromhex(image.sha256), lambda: content)
    with errors_of(f"{field_set.address}: it cannot be signed"):
        files = sign_image(
            name, message, statement.manifest, statement.sboms, statement.build, signer.signer, signer.previous_files(directory)
        )
    return await _files({os.path.join(directory, file): content for file, content in files.items()})


async def sign_layout(
    field_set: OwnPackageFieldSet,
    layout: BuiltLayout,
    repositories: Sequence[str],
    predicates: Mapping[str, Mapping[str, Any]],
    signer: ImageSigner,
) -> Digest:
    """An OCI layout with signatures and attestations of the image in `layout`, as registries have them: see `signatures_path`."""
    assert signer.signer is not None
    directory = signatures_path(layout.path)
    name = os.path.basename(os.path.splitext(layout.path)[0])
    signed = SignedImage(layout.image, name, repositories, predicates)
    with errors_of(f"{field_set.address}: {layout.path} cannot be signed"):
        files = sign_in_registry(signed, signer.signer, signer.previous_files(directory))
    return await _files({os.path.join(directory, file): content for file, content in files.items()})


def package_predicates(statement: Statement, image: BuiltImage) -> dict[str, Mapping[str, Any]]:
    """What is said of a package with the image in it, by predicate types."""
    artifact = Artifact(os.path.basename(image.path), image.sha256)
    build = dataclasses.replace(statement.build, inputs=[*statement.build.inputs, artifact])
    return {PREDICATE_TYPE: provenance_predicate(build), **statement.sbom_predicates}


def container_predicates(statement: Statement) -> dict[str, Mapping[str, Any]]:
    """What is said of a container of an image's files. The SBOMs have a kernel in them, and a container has none."""
    return {PREDICATE_TYPE: provenance_predicate(statement.build)}


def _written_fields(field_set: OwnPackageFieldSet) -> dict[str, Any]:
    """The target's fields that say something, as JSON has them."""
    fields = (getattr(field_set, item.name) for item in dataclasses.fields(field_set))
    return {
        item.alias: _plain(item.value)
        for item in fields
        if isinstance(item, Field) and item.value is not None and item.value != getattr(item, "default", None)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *UnikernelSigning.rules())
