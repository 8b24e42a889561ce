"""Between BuildBox's worker and its runner, for Pants 2.17: it names outputs as version 2.0 of the Remote Execution API does
(Command.output_files and output_directories), which BuildBox 1.4 reads no more, and here they become `output_paths`. BuildGrid's Python
runs this, with BuildGrid's modules, as `reapi_runner.py RUNNER ARGUMENT...`.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc  # pants: no-infer-dep
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi  # pants: no-infer-dep
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as services  # pants: no-infer-dep


def name_outputs(action_file: Path, remote: str) -> None:
    """Rewrites the serialized Action; its new Command is stored beside the old one."""
    action = reapi.Action.FromString(action_file.read_bytes())
    with grpc.insecure_channel(remote) as channel:
        storage = services.ContentAddressableStorageStub(channel)
        request = reapi.BatchReadBlobsRequest(digests=[action.command_digest])
        [read] = storage.BatchReadBlobs(request).responses
        command = reapi.Command.FromString(read.data)
        command.output_paths.extend(sorted({*command.output_files, *command.output_directories} - {*command.output_paths}))
        content = command.SerializeToString()
        digest = reapi.Digest(hash=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        blob = reapi.BatchUpdateBlobsRequest.Request(digest=digest, data=content)
        storage.BatchUpdateBlobs(reapi.BatchUpdateBlobsRequest(requests=[blob]))
    action.command_digest.CopyFrom(digest)
    action_file.write_bytes(action.SerializeToString())


def main(runner: str, arguments: Sequence[str]) -> None:
    options = dict(word.split("=", 1) for word in arguments if "=" in word)
    if "--action" in options:
        name_outputs(Path(options["--action"]), options["--remote"].partition("//")[2])
    os.execv(runner, [runner, *arguments])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
