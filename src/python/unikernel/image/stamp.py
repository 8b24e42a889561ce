"""The last step of an image that a library OS's own linker made: its manifest goes into it, as an ELF note that nothing loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.elf import read_elf_file
from unikernel.errors import UnikernelError
from unikernel.image import manifest as image_manifest
from unikernel.image.attachment import append_sections, manifest_section
from unikernel.image.manifest_pb2 import LibraryOs, Network, Rootfs, Start
from unikernel.image.spec import ImageSpec
from unikernel.image.tools import run_tool
from unikernel.library_os.description import LibraryOs as Description


def stamp_image(
    spec: ImageSpec,
    library_os: Description,
    version: str,
    *,
    program: Path,
    inputs: Mapping[str, str],
    output: Path,
    scratch: Path,
    objcopy: str,
    description: str = "",
) -> None:
    """Writes `program` with its manifest, and without symbols, to `output`, and the manifest as JSON beside it.

    `inputs` are digests (SHA-256, hex) by name, beside the program's own; `description` is the library OS's text, if it does not come
    along with the toolkit. Raises UnikernelError when the program is for another machine.
    """
    facts = read_elf_file(program)
    if facts.machine != library_os.architecture:
        raise UnikernelError(
            f"{program.name} is a program for {facts.machine}, and {library_os.name} is for {library_os.architecture}."
        )
    manifest = image_manifest.declared_manifest(
        spec,
        inputs={**spec.inputs, **inputs, "program": file_sha256(program)},
        tools=spec.tools,
        architecture=library_os.architecture,
        library_os=LibraryOs(name=library_os.name, version=version, description=description),
        rootfs=Rootfs(sha256=image_manifest.rootfs_sha256([])),
        start=Start(
            program=spec.name,
            arguments=[spec.name, *spec.arguments],
            environment=[f"{key}={value}" for key, value in sorted(spec.environment.items())],
        ),
        memory_bytes=max(spec.memory or 0, library_os.minimum_memory),
        network=Network(mode=spec.network.mode),
    )
    stripped = scratch / "stripped"
    run_tool([objcopy, "--strip-all", str(program), str(stripped)], "strip the program")
    append_sections(stripped, [manifest_section(image_manifest.note(image_manifest.encode(manifest)))], output)
    output.chmod(0o755)
    output.with_suffix(".json").write_text(image_manifest.to_json(manifest))
