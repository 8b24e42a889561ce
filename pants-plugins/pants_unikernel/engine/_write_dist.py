"""How `pants package` writes `dist/`, in all versions of Pants: it removes each artifact and writes it anew, in each run, also what is there already.

That is nearly all that a run without changes costs where there are a thousand images, which are GB; and who kills it, or whose disk is full, is
left with half of an image. Artifacts at a `DistPath` are left alone as long as they are what they should be, and put in place whole otherwise.
What others have there is written as ever.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar, Union

from pants.base.build_environment import get_buildroot
from pants.engine.fs import (
    CreateDigest,
    Digest,
    DigestEntries,
    Directory,
    FileEntry,
    SymlinkEntry,
    Workspace,
)
from pants.engine.internals.scheduler import SchedulerSession
from pants.engine.rules import QueryRule
from pants.option.options_bootstrapper import OptionsBootstrapper

from pants_unikernel.dist_files import DistFile, DistFiles, DistPackage, DistPath, dist_state
from pants_unikernel.engine._closing_line import end_with_a_summary, summarize

T = TypeVar("T")

# What is written before it is put in place: so much more space than the images is needed.
_BATCH_BYTES = 512 * 2**20


@cache
def write_only_what_changed() -> None:
    """From now on, in this process."""
    write_all = Workspace.write_digest

    def write_digest(
        self: Workspace,
        digest: Digest,
        *,
        path_prefix: str | None = None,
        clear_paths: Sequence[str] = (),
        side_effecting: bool = True,
    ) -> None:
        if path_prefix is None or not any(isinstance(path, DistPath) for path in clear_paths):
            write_all(self, digest, path_prefix=path_prefix, clear_paths=clear_paths, side_effecting=side_effecting)
            return
        if side_effecting:
            self.side_effected()
        _write(self._scheduler, digest, path_prefix, clear_paths)

    Workspace.write_digest = write_digest  # type: ignore[method-assign]
    end_with_a_summary()


def _write(scheduler: SchedulerSession, digest: Digest, path_prefix: str, clear_paths: Sequence[str]) -> None:
    packages: dict[str, _Package] = {}
    for path in clear_paths:
        if isinstance(path, DistPath):
            _, artifacts = packages.setdefault(path.package.target, (path.package, list(path.package.documents)))
            artifacts.append(str(path))
    ours = [path for _, artifacts in packages.values() for path in artifacts]
    others = [path for path in clear_paths if not isinstance(path, DistPath)]
    _write_others(scheduler, digest, path_prefix, ours, others)
    root = Path(get_buildroot())
    dist = DistFiles(root / path_prefix, dist_state(_work_directory(scheduler)))
    others_than_written = [item for item in packages.values() if not dist.is_written(*item)]
    try:
        for batch in _batches(_contents(scheduler, others_than_written)):
            entries = {
                (package.target, artifact): of_artifact for package, content in batch for artifact, of_artifact in content.items()
            }
            files = {artifact: _files(of_artifact) for artifact, of_artifact in entries.items()}
            changed = {
                artifact: of_artifact for artifact, of_artifact in files.items() if not dist.has_written(*artifact, of_artifact)
            }
            with dist.staged(changed) as directory:
                request = CreateDigest(entry for artifact in changed for entry in entries[artifact])
                (staged,) = _ask(scheduler, Digest, [request])
                scheduler.write_digest(staged, path_prefix=os.path.relpath(directory, root))
            for package, content in batch:
                dist.complete(package, content)
    finally:
        dist.save()
    summarize([package for package, _ in packages.values()], path_prefix)


def _write_others(scheduler: SchedulerSession, digest: Digest, path_prefix: str, ours: Iterable[str], paths: Sequence[str]) -> None:
    """What is at none of our paths, as ever. Not by a glob for each of our paths, which takes the engine seconds where there are thousands."""
    of_us = set(ours)
    (entries,) = _ask(scheduler, DigestEntries, [digest])
    of_others = [entry for entry in entries if _artifact_of(entry.path, of_us) is None]
    if paths or of_others:
        (others,) = _ask(scheduler, Digest, [CreateDigest(of_others)])
        scheduler.write_digest(others, path_prefix=path_prefix, clear_paths=paths)


def _artifact_of(path: str, artifacts: Container[str]) -> str | None:
    """The one that a path is, or is below."""
    while path and path not in artifacts:
        path = os.path.dirname(path)
    return path or None


# With its artifacts, which are one at least.
_Package = tuple[DistPackage, list[str]]
_Entry = Union[FileEntry, SymlinkEntry, Directory]
# By artifact.
_Content = dict[str, list[_Entry]]


def _contents(scheduler: SchedulerSession, packages: Sequence[_Package]) -> Iterator[tuple[DistPackage, _Content]]:
    """What is in each package's artifacts."""
    digests = [package.digest for package, _ in packages]
    for (package, artifacts), entries in zip(packages, _ask(scheduler, DigestEntries, digests) if digests else ()):
        content: _Content = {artifact: [] for artifact in artifacts}
        for entry in entries:
            artifact = _artifact_of(entry.path, content)
            if artifact is not None:
                content[artifact].append(entry)
        yield package, content


def _batches(contents: Iterable[tuple[DistPackage, _Content]]) -> Iterator[list[tuple[DistPackage, _Content]]]:
    """What is written together: a target's artifacts always are."""
    batch: list[tuple[DistPackage, _Content]] = []
    size = 0
    for package, content in contents:
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append((package, content))
        files = (entry for entries in content.values() for entry in entries if isinstance(entry, FileEntry))
        size += sum(entry.file_digest.serialized_bytes_length for entry in files)
    if batch:
        yield batch


def _files(entries: Sequence[_Entry]) -> list[DistFile]:
    """None where there is anything else: what has no files is never found written."""
    files = [
        DistFile(entry.path, entry.file_digest.fingerprint, entry.is_executable)
        for entry in entries
        if isinstance(entry, FileEntry)
    ]
    return files if len(files) == len(entries) else []


def _work_directory(scheduler: SchedulerSession) -> Path:
    options = scheduler.py_session.session_values[OptionsBootstrapper].bootstrap_options.for_global_scope()
    return Path(options.pants_workdir)


# --- asking the engine where nothing can be awaited ---------------------------------------------------------------


def _ask(scheduler: SchedulerSession, product: type[T], subjects: Sequence[object]) -> Sequence[T]:
    """As `await Get(product, subject)` for each. A goal's own thread cannot wait for the engine (it is one of those that do the work), another can: what
    listens to Pants' workunits asks like that (`StreamingWorkunitContext.snapshots_to_file_contents`). In a session beside the goal's: the
    end of a request takes its session's display down.
    """
    session = scheduler.isolated_shallow_clone("unikernel-dist")
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(session.product_request, product, subjects).result()


def rules() -> Iterable[QueryRule]:
    # What is asked for and Pants does not ask for itself.
    return (QueryRule(DigestEntries, (Digest,)),)
