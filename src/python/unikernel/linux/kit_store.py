"""Signed kits as files: exporting, verifying and importing them.

A kit is `KEY.kit`, named by its cache key, with its Sigstore bundle beside it. Nothing of a kit is
used before its signature, its contents and its name are verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable

from unikernel.errors import UnikernelError
from unikernel.linux.kit_archive import (
    INIT,
    LARGEST_ARCHIVE,
    SUFFIX,
    KitContents,
    archive_name,
    is_cache_key,
    read_archive,
    write_archive,
)
from unikernel.linux.kit_key import key_ingredients
from unikernel.signing.bundle import sign_bundle, verify_bundle
from unikernel.signing.documents import read
from unikernel.signing.files import bundle_path
from unikernel.signing.keys import Message, PublicKey
from unikernel.signing.signer import Signer

_LARGEST_BUNDLE = 1 << 16
_PIECE = 1 << 20


@dataclass(frozen=True)
class StoredKit:
    """An archive that was read to its end. `sha256` (hex) and `size` are the archive's; `signer` is
    there once its signature is verified.
    """

    contents: KitContents
    sha256: str
    size: int
    signer: PublicKey | None = None

    @property
    def key(self) -> str:
        return self.contents.document.key


@dataclass(frozen=True)
class Trust:
    """The keys that may sign kits, and whether a kit may be signed by a development key."""

    keys: Sequence[PublicKey]
    development_keys: bool = False


def kits_directory(environment: Mapping[str, str]) -> Path:
    """Return where imported kits are: below the user's data directory
    (specifications.freedesktop.org/basedir-spec). Raises UnikernelError without one.
    """
    configured = environment.get("XDG_DATA_HOME", "")
    if os.path.isabs(configured):
        return Path(configured, "unikernel", "kits")
    home = environment.get("HOME", "")
    if not os.path.isabs(home):
        raise UnikernelError("There is no home directory to keep kits in. Set HOME, or name a directory.")
    return Path(home, ".local/share/unikernel/kits")


def bundle_beside(archive: Path) -> Path:
    return Path(bundle_path(str(archive)))


def kits_in(directory: Path) -> list[Path]:
    """Return the archives in a directory, sorted. A directory that does not exist has none."""
    return sorted(path for path in directory.glob(f"*{SUFFIX}") if path.is_file())


def export_kit(kit: Path, init: Path, options: Sequence[str], output: Path, signer: Signer, *, development_key: bool) -> Path:
    """Write a signed archive to the file `output`, or below its cache key into the directory
    `output`, with its bundle beside it. Return the archive's path.
    """
    ingredients = key_ingredients(options)
    archive = output / archive_name(ingredients.key) if output.is_dir() else output
    check_name(archive, ingredients.key)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_file(archive) as temporary:
        write_archive(kit, init, ingredients, temporary, development_key=development_key)
        with _opened(temporary, str(archive)) as stream:
            bundle = sign_bundle(_message(stream, str(archive)), signer)
        _replace(bundle_beside(archive), bundle)
        os.replace(temporary, archive)
    return archive


def inspect_kit(archive: Path) -> StoredKit:
    """Read an archive, without a look at who signed it. Raises UnikernelError for one that is not
    valid.
    """
    with _opened(archive, str(archive)) as stream:
        message = _message(stream, str(archive))
        stored = _read(stream, message, str(archive))
    check_name(archive, stored.key)
    return stored


def verify_kit(
    archive: Path, trust: Trust, *, expected: str | None = None, extract: Callable[[str], BinaryIO] | None = None
) -> StoredKit:
    """Verify an archive with the bundle beside it: its signature first, then its contents, which
    are written to what `extract` opens.

    Raises UnikernelError, with the file's name in it; what was written then must not be used.
    """
    return _verify(
        archive, read(bundle_beside(archive), str(bundle_beside(archive)), _LARGEST_BUNDLE), archive, trust, expected, extract
    )


def _verify(
    file: Path,
    bundle: bytes,
    archive: Path,
    trust: Trust,
    expected: str | None,
    extract: Callable[[str], BinaryIO] | None = None,
) -> StoredKit:
    """`file` has the content of the archive that is called `archive`."""
    name = str(archive)
    with _opened(file, name) as stream:
        message = _message(stream, name)
        signer = verify_bundle(bundle, message, trust.keys, str(bundle_beside(archive)))
        stored = _read(stream, message, name, extract)
    if stored.contents.document.development_key and not trust.development_keys:
        raise UnikernelError(
            f"{name} is signed by a development key, and none is accepted here. Export it with a key that is configured, or allow "
            "development keys."
        )
    check_name(archive, stored.key)
    if expected is not None and stored.key != expected:
        raise UnikernelError(f"{name} has the cache key {stored.key}, but {expected} is expected. Get the kit with that key.")
    return StoredKit(stored.contents, stored.sha256, stored.size, signer)


def unpack_kit(archive: Path, trust: Trust, expected: str, output: Path, init: Path) -> StoredKit:
    """Verify an archive, and write the kit to the new directory `output` and PID 1's program to the
    file `init`.
    """
    output.mkdir(parents=True)

    def extract(name: str) -> BinaryIO:
        path = init if name == INIT else output / name
        stream = path.open("xb")
        os.fchmod(stream.fileno(), 0o755 if name == INIT else 0o644)
        return stream

    return verify_kit(archive, trust, expected=expected, extract=extract)


def import_kit(archive: Path, directory: Path, trust: Trust, *, expected: str | None = None) -> tuple[Path, StoredKit]:
    """Verify an archive, and put it with its bundle into a directory: whole, or not at all. Return
    its new path.
    """
    bundle = read(bundle_beside(archive), str(bundle_beside(archive)), _LARGEST_BUNDLE)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _temporary_file(directory / "import") as temporary:
            with _opened(archive, str(archive)) as source, temporary.open("wb") as copy:
                for piece in _pieces(source, str(archive)):
                    copy.write(piece)
            # The copy is verified, so what is imported is what was verified.
            stored = _verify(temporary, bundle, archive, trust, expected)
            path = directory / archive_name(stored.key)
            # The bundle first: between the two steps, a kit that is there already does not hold.
            _replace(bundle_beside(path), bundle)
            os.replace(temporary, path)
    except OSError as error:
        raise UnikernelError(f"{archive} cannot be imported into {directory}: {error.strerror}.") from error
    return path, stored


def check_name(archive: Path, key: str) -> None:
    """Raises UnikernelError for an archive that is named by another cache key than its own."""
    stem = archive.name[: -len(SUFFIX)] if archive.name.endswith(SUFFIX) else ""
    if is_cache_key(stem) and stem != key:
        raise UnikernelError(f"{archive} has the cache key {key}, which its name is not. Get the kit with the key in its name.")


# --- files ---


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[BinaryIO]:
    try:
        # Opening a pipe would wait for a writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnikernelError(f"{name} is not a regular file. Name the archive of a kit.")
        stream = path.open("rb")
    except OSError as error:
        raise UnikernelError(f"{name} cannot be read: {error.strerror}.") from error
    with stream:
        yield stream


def _pieces(stream: BinaryIO, name: str) -> Iterator[bytes]:
    size = 0
    for piece in iter(lambda: stream.read(_PIECE), b""):
        size += len(piece)
        if size > LARGEST_ARCHIVE:
            raise UnikernelError(f"{name} is larger than {LARGEST_ARCHIVE >> 20} MiB, and so not the archive of a kit.")
        yield piece


def _message(stream: BinaryIO, name: str) -> Message:
    digest = hashlib.sha256()
    for piece in _pieces(stream, name):
        digest.update(piece)
    return Message(digest.digest(), lambda: _whole(stream, name))


def _whole(stream: BinaryIO, name: str) -> bytes:
    """For Ed25519, which signs all of a message."""
    stream.seek(0)
    return b"".join(_pieces(stream, name))


def _read(stream: BinaryIO, message: Message, name: str, extract: Callable[[str], BinaryIO] | None = None) -> StoredKit:
    stream.seek(0)
    hashed = _Hashed(stream)
    contents = read_archive(hashed, name, extract)
    if hashed.digest.digest() != message.sha256:
        raise UnikernelError(f"{name} was changed while it was read. Try again when nothing writes to it.")
    return StoredKit(contents, message.sha256.hex(), hashed.size)


class _Hashed:
    """A stream whose bytes are hashed while they are read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self.digest.update(content)
        self.size += len(content)
        return content


@contextlib.contextmanager
def _temporary_file(beside: Path) -> Iterator[Path]:
    """A new file in the directory of another one, which is gone afterwards unless it was renamed."""
    descriptor, name = tempfile.mkstemp(dir=beside.parent, prefix=f".{beside.name}-")
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _replace(path: Path, content: bytes) -> None:
    with _temporary_file(path) as temporary:
        temporary.write_bytes(content)
        os.replace(temporary, path)
