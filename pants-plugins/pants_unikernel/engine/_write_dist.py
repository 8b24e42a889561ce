"""How `pants package` writes `dist/`, in all versions of Pants: it removes each artifact and writes it anew, in each run, also what is there already.

That is nearly all that a run without changes costs where there are a thousand images, which are GB; and who kills it, or whose disk is full, is
left with half of an image. Artifacts at a `DistPath` are left alone as long as they are what they should be, and put in place whole otherwise.
What others have there is written as ever.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pants.base.build_environment import get_buildroot
from pants.engine.fs import CreateDigest, Digest, DigestEntries, FileEntry, Workspace
from pants.engine.internals.scheduler import SchedulerSession
from pants.engine.rules import QueryRule
from pants.option.options_bootstrapper import OptionsBootstrapper

from pants_unikernel.dist_files import DistFile, DistFiles, DistPath

T = TypeVar("T")

# What is written before it is put in place: so much more space than the images is needed.
_BATCH_BYTES = 512 * 2**20


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


def _write(scheduler: SchedulerSession, digest: Digest, path_prefix: str, clear_paths: Sequence[str]) -> None:
    artifacts, others = _by_artifact(_ask(scheduler, DigestEntries, digest), clear_paths)
    scheduler.write_digest(
        _ask(scheduler, Digest, CreateDigest(others)),
        path_prefix=path_prefix,
        clear_paths=[path for path in clear_paths if path not in artifacts],
    )
    root = Path(get_buildroot())
    dist = DistFiles(root / path_prefix, _work_directory(scheduler) / "unikernel" / "dist")
    files = {artifact: [_file(entry) for entry in entries] for artifact, entries in artifacts.items()}
    changed = [artifact for artifact in artifacts if not dist.is_written(artifact, files[artifact])]
    try:
        for batch in _batches({artifact: artifacts[artifact] for artifact in changed}):
            entries = CreateDigest(entry for artifact in batch for entry in artifacts[artifact])
            with dist.staged({artifact: files[artifact] for artifact in batch}) as directory:
                scheduler.write_digest(_ask(scheduler, Digest, entries), path_prefix=os.path.relpath(directory, root))
    finally:
        dist.save()


def _by_artifact(entries: DigestEntries, clear_paths: Iterable[str]) -> tuple[dict[DistPath, list[FileEntry]], list[Any]]:
    """The files of each `DistPath`, in their order; and all other entries. One that has anything but files is written like those."""
    artifacts: dict[str, list[Any]] = {path: [] for path in clear_paths if isinstance(path, DistPath)}
    others: list[Any] = []
    for entry in entries:
        path = entry.path
        while path and path not in artifacts:
            path = os.path.dirname(path)
        artifacts.get(path, others).append(entry)
    ours: dict[DistPath, list[FileEntry]] = {}
    for artifact, found in artifacts.items():
        if isinstance(artifact, DistPath) and found and all(isinstance(entry, FileEntry) for entry in found):
            ours[artifact] = found
        else:
            others += found
    return ours, others


def _batches(artifacts: Mapping[DistPath, Sequence[FileEntry]]) -> Iterator[list[DistPath]]:
    """What is written together: a target's artifacts always are."""
    batch: list[DistPath] = []
    size = 0
    for _, of_target in itertools.groupby(artifacts, key=lambda artifact: artifact.target):
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        for artifact in of_target:
            batch.append(artifact)
            size += sum(entry.file_digest.serialized_bytes_length for entry in artifacts[artifact])
    if batch:
        yield batch


def _file(entry: FileEntry) -> DistFile:
    return DistFile(entry.path, entry.file_digest.fingerprint, entry.is_executable)


def _work_directory(scheduler: SchedulerSession) -> Path:
    options = scheduler.py_session.session_values[OptionsBootstrapper].bootstrap_options.for_global_scope()
    return Path(options.pants_workdir)


# --- asking the engine where nothing can be awaited ---------------------------------------------------------------


def _ask(scheduler: SchedulerSession, product: type[T], subject: object) -> T:
    """As `await Get(product, subject)`. A goal's own thread cannot wait for the engine (it is one of those that do the work), another can: what
    listens to Pants' workunits asks like that (`StreamingWorkunitContext.snapshots_to_file_contents`). In a session beside the goal's: the
    end of a request takes its session's display down.
    """
    session = scheduler.isolated_shallow_clone("unikernel-dist")
    with ThreadPoolExecutor(max_workers=1) as thread:
        (answer,) = thread.submit(session.product_request, product, [subject]).result()
    return answer


def rules() -> Iterable[QueryRule]:
    # What is asked for and Pants does not ask for itself.
    return (QueryRule(DigestEntries, (Digest,)),)
