"""The application's layer of a Docker image: its root file system as one layer, and how it starts.

The image's own ENTRYPOINT, CMD, ENV, USER, WORKDIR and EXPOSE become what the layer says of the start, each of which an image's settings
can override: see image/layers.py.
"""

from __future__ import annotations

import posixpath
import re
import stat
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unikernel.blocks import copy_bytes
from unikernel.elf import ELF_MAGIC, ElfFacts, ElfKind, read_elf
from unikernel.errors import UnikernelError
from unikernel.image.spec import USUAL_PATH
from unikernel.library_os.requirements import app_kind
from unikernel.oci.layout import ARCHITECTURES
from unikernel.rootfs.docker_archive import ImageConfig, SavedImage, read_image, uncompressed
from unikernel.rootfs.image_tree import ImageTree, Node
from unikernel.rootfs.layer import Layer, LayerIndex, readable
from unikernel.rootfs.libraries import (
    candidates,
    check_machine,
    default_directories,
    expand_search_path,
    is_loader,
    provided_by_loader,
)
from unikernel.rootfs.needs import Need, program_needs
from unikernel.sbom.component import Component, ComponentKind

# Docker mounts its own there. Here they are the base layer's and PID 1's.
_MADE_AT_START = ("/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/.dockerenv")
_PID_1 = "/.unikernel"
# Where programs for these machines look for their loader: glibc's and musl's.
_LOADERS = {
    "aarch64": ("/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1"),
    "riscv64": ("/lib/ld-linux-riscv64-lp64d.so.1", "/lib/ld-musl-riscv64.so.1"),
    "x86_64": ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"),
}
_PROGRAMS = (ElfKind.STATIC, ElfKind.STATIC_PIE, ElfKind.DYNAMIC)
_SHARED_LIBRARY = re.compile(r".+\.so(\.\d+)*")
# BINPRM_BUF_SIZE and the depth in fs/exec.c: how far the kernel looks for an interpreter, and for one of an interpreter.
_FIRST_LINE = 256
_MOST_INTERPRETERS = 5
_SHOWN = 3
_IMAGE_ID = re.compile(r"(sha256:)?[0-9a-f]{12,64}")


@dataclass
class DockerApplication:
    """`warnings` are what of the image is left out, for people."""

    layer: Layer
    index: LayerIndex
    warnings: list[str] = field(default_factory=list)


def save_docker_image(docker: str, image_id: str, archive: Path) -> None:
    """Has the engine that `docker` talks to write the image to a new file. Raises UnikernelError with its last word when it does not."""
    if not _IMAGE_ID.fullmatch(image_id):
        raise UnikernelError(f"{image_id!r} is no id of a Docker image, such as sha256:9f86d081884c...")
    try:
        with archive.open("wb") as stream:
            result = subprocess.run([docker, "image", "save", image_id], stdout=stream, stderr=subprocess.PIPE)
    except OSError as error:
        raise UnikernelError(f"The Docker image {image_id} cannot be saved: {docker} cannot be run ({error.strerror}).") from error
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1].strip() if lines else f"{docker} ended with status {result.returncode}"
        raise UnikernelError(f"The Docker image {image_id} cannot be saved: {reason}")


def build_docker_application(
    archive: Path, *, image_id: str = "", machine: str, executable: str | None = None, scratch: Path, name: str = ""
) -> DockerApplication:
    """The layer of the image in an archive of `docker image save`. It refers to the archive and to files in `scratch`.

    `executable` takes the place of ENTRYPOINT and CMD, as `docker run --entrypoint` does. `name` is what errors call the image.

    Raises UnikernelError when the archive is damaged or holds another image, when there is nothing to start in it, and when what starts
    cannot run on `machine`, or lacks a loader or a library.
    """
    image = read_image(archive, image_id)
    name = name or f"The Docker image {image_id or f'sha256:{image.digest}'}"
    _check_platform(image.config, name, machine)
    tree = _flattened(image, name, scratch)
    command = _command(image.config, executable, name)
    warnings = _port_warnings(image.config)
    index = LayerIndex("application", [])
    starting = _Starting(tree, image.config, machine, name, scratch)
    program = starting.find_program(command.words[0])
    needs = starting.check(program, index)
    index.facts["needs"] = [need.to_document() for need in needs]
    index.facts["start"] = {
        "program": program,
        "arguments": list(command.words),
        "default_arguments": list(command.default_arguments),
        "environment": dict(image.config.environment),
        "working_directory": image.config.working_directory,
        "user": image.config.user,
        "ports": list(image.config.ports),
    }
    index.components.append(Component(ComponentKind.APPLICATION, "docker-image", f"sha256:{image.digest}", sha256=image.digest))
    return DockerApplication(_layer(tree, name, warnings), index, warnings)


def _check_platform(config: ImageConfig, name: str, machine: str) -> None:
    wanted = f"linux/{ARCHITECTURES[machine]}"
    there = f"{config.operating_system}/{config.architecture}"
    if there != wanted:
        raise UnikernelError(
            f"{name} is for {there}, and the unikernel for {machine}: build the image for that machine (`--platform {wanted}`)."
        )


def _port_warnings(config: ImageConfig) -> list[str]:
    ports = config.unusable_ports
    return [f"exposed ports that are neither TCP nor UDP are left out: {_listed(ports)}"] if ports else []


# --- the root file system -----------------------------------------------------------------------------------------


def _flattened(image: SavedImage, name: str, scratch: Path) -> ImageTree:
    tree = ImageTree()
    for number, layer in enumerate(image.layers, 1):
        what = f"{name}: layer {number} of {len(image.layers)}"
        tree.apply(uncompressed(layer, scratch / f"layer-{number}.tar", what), number, scratch, what)
    # Docker makes these when a container starts, if they are not there.
    for path in (image.config.working_directory, *image.config.volumes):
        tree.make_directory(path.split("/"), len(image.layers) + 1, path)
    for path in _MADE_AT_START:
        tree.remove(path)
    own = tree.find(_PID_1, follow=False)
    if own is not None:
        below = next(iter(sorted(own.children)), "")
        raise UnikernelError(
            f"{name} has {readable(posixpath.join(_PID_1, below))}, where a unikernel has its own PID 1: give it another name."
        )
    return tree


def _layer(tree: ImageTree, name: str, warnings: list[str]) -> Layer:
    layer = Layer("application")
    special, attributes = [], []
    for path, node in tree.entries():
        try:
            if not _add(layer, path, node):
                special.append(path)
        except UnikernelError as error:
            raise UnikernelError(f"{name}: {error}") from error
        if node.has_attributes:
            attributes.append(path)
    if special:
        warnings.append(f"pipes are left out: make them at run time: {_listed(special)}")
    if attributes:
        warnings.append(
            f"extended attributes, such as capabilities of programs, are left out: files have none in a unikernel: {_listed(attributes)}"
        )
    return layer


def _add(layer: Layer, path: str, node: Node) -> bool:
    """Returns whether a layer can have it."""
    mode = stat.S_IMODE(node.mode)
    if node.is_directory:
        layer.add_directory(path, mode, node.owner)
    elif node.is_link:
        layer.add_symlink(path, node.target, node.owner)
    elif node.content is not None:
        layer.add_part(path, node.content.file, node.content.start, node.content.size, mode, node.owner)
    elif stat.S_ISCHR(node.mode):
        layer.add_character_device(path, *node.device, mode, node.owner)
    elif stat.S_ISBLK(node.mode):
        layer.add_block_device(path, *node.device, mode, node.owner)
    else:
        return False
    return True


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(readable(path) for path in paths[:_SHOWN]) + more


# --- what starts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Command:
    """`words` are the program and its fixed arguments."""

    words: tuple[str, ...]
    default_arguments: tuple[str, ...] = ()


def _command(config: ImageConfig, executable: str | None, name: str) -> _Command:
    if executable is not None:
        return _Command((executable,))
    if config.entrypoint:
        return _Command(config.entrypoint, config.command)
    if config.command:
        return _Command(config.command[:1], config.command[1:])
    raise UnikernelError(f"{name} has neither an ENTRYPOINT nor a CMD: say by `executable` what starts.")


class _Starting:
    """Finds what starts, and all that it needs to start, in the image alone."""

    def __init__(self, tree: ImageTree, config: ImageConfig, machine: str, name: str, scratch: Path) -> None:
        self._tree = tree
        self._config = config
        self._machine = machine
        self._name = name
        self._scratch = scratch / "starting"
        self._scratch.mkdir()

    def find_program(self, word: str) -> str:
        """The path that Docker would start: a word without a slash is looked up on the image's own PATH."""
        if "/" in word:
            candidates = [word]
        else:
            path = self._config.environment.get("PATH", USUAL_PATH)
            candidates = [posixpath.join(directory, word) for directory in path.split(":")]
        found = None
        for candidate in candidates:
            candidate = posixpath.join(self._config.working_directory, candidate)
            node = self._tree.find(candidate)
            if node is None or not node.is_file:
                continue
            if node.mode & 0o111:
                # By that name, as it is: a program such as busybox looks at the name of a link to it.
                return self._tree.resolve(candidate) or "" if ".." in candidate.split("/") else posixpath.normpath(candidate)
            found = found or candidate
        if found is not None:
            raise UnikernelError(
                f"{self._name} would start {readable(found)}, which is not executable: change its mode (chmod 755)."
            )
        where = "" if "/" in word else f" on its PATH ({path})"
        raise UnikernelError(
            f"{self._name} would start {word!r}, which it does not have{where}: say by `executable` what starts, if it is another program."
        )

    def check(self, program: str, index: LayerIndex) -> list[Need]:
        """Whether it can start: with its interpreter, if it is a script, its loader and its libraries. Fills in what the index has to say
        of it, and returns what it asks of an operating system.
        """
        path, facts, file = self._interpreted(program)
        index.facts["program"] = {"name": posixpath.basename(path), "kind": app_kind(facts).value}
        is_script = path != self._tree.resolve(program)
        needs = program_needs(file, facts, posixpath.basename(path))
        libraries = _Libraries(self._tree, self._config, self._machine, facts.interpreter, self._name, self._scratch)
        if facts.interpreter is not None:
            libraries.check_loader(facts.interpreter, path)
        for library, elf, source in libraries.closure(path, facts):
            needs += program_needs(source, elf, posixpath.basename(library), certain=False)
        index.provides = libraries.provided()
        # A script may ask for less than its interpreter can.
        return [] if is_script else needs

    def _interpreted(self, program: str) -> tuple[str, ElfFacts, Path]:
        """The ELF program that runs when `program` is started, its facts, and a copy of it."""
        path, needed_by = program, self._name
        for _ in range(_MOST_INTERPRETERS):
            resolved = self._tree.resolve(path)
            node = self._tree.find(path)
            if resolved is None or node is None or not node.is_file:
                raise UnikernelError(f"{self._name} has no {readable(path)}, which {needed_by} needs to start.")
            file = _copy(node, self._scratch / "program")
            with file.open("rb") as stream:
                first_line = stream.read(_FIRST_LINE).split(b"\n", 1)[0]
            if first_line.startswith(ELF_MAGIC):
                return resolved, self._program_facts(file, resolved), file
            words = first_line[2:].split()
            if not first_line.startswith(b"#!") or not words:
                raise UnikernelError(
                    f"{self._name} would start {readable(path)}, which is neither an ELF program nor a script that names its "
                    "interpreter (#!)."
                )
            needed_by = readable(path)
            path = posixpath.join(self._config.working_directory, words[0].decode("utf-8", "surrogateescape"))
        raise UnikernelError(f"{self._name} would start {readable(program)}, a script whose interpreters are scripts themselves.")

    def _program_facts(self, file: Path, path: str) -> ElfFacts:
        facts = _elf_facts(file, path)
        check_machine(facts, readable(path), self._machine)
        if facts.kind not in _PROGRAMS:
            raise UnikernelError(f"{self._name} would start {readable(path)}, which is an ELF {facts.kind.value}, not a program.")
        return facts


class _Libraries:
    """The shared libraries of an image, as its loader looks for them: ld.so(8)."""

    def __init__(
        self, tree: ImageTree, config: ImageConfig, machine: str, interpreter: str | None, name: str, scratch: Path
    ) -> None:
        self._tree = tree
        self._machine = machine
        self._interpreter = interpreter
        self._name = name
        self._scratch = scratch
        self._path = [entry for entry in re.split("[:;]", config.environment.get("LD_LIBRARY_PATH", "")) if entry]
        self._defaults = self._default_directories()
        self._by_name: dict[str, str] | None = None

    def check_loader(self, interpreter: str, program: str) -> None:
        node = self._tree.find(interpreter)
        if node is None or not node.is_file:
            raise UnikernelError(
                f"{self._name} lacks {readable(interpreter)}, the loader that {readable(program)} needs to start: it was built for "
                "another base image, or is to be linked statically."
            )

    def closure(self, program: str, facts: ElfFacts) -> list[tuple[str, ElfFacts, Path]]:
        """The libraries that the program leads to, each with a copy. Raises UnikernelError for one that the image does not have."""
        found: dict[str, tuple[str, ElfFacts, Path]] = {}
        queue: list[tuple[str, ElfFacts, tuple[str, ...]]] = [(program, facts, ())]
        while queue:
            path, elf, inherited = queue.pop(0)
            origin = posixpath.dirname(path)
            rpath = (*(expand_search_path(entry, origin, self._machine) for entry in elf.rpath), *inherited)
            runpath = [expand_search_path(entry, origin, self._machine) for entry in elf.runpath]
            search = (*(() if runpath else rpath), *self._path, *runpath, *self._defaults)
            for soname in elf.needed:
                if provided_by_loader(soname, self._interpreter):
                    continue
                library = self._find(soname, origin, search)
                if library is None:
                    raise UnikernelError(f"{self._name} lacks the shared library {readable(soname)}, which {readable(path)} needs.")
                if library not in found:
                    copy = _copy(self._node(library), self._scratch / f"library-{len(found)}")
                    found[library] = (library, _elf_facts(copy, library), copy)
                    queue.append((*found[library][:2], rpath))
        return list(found.values())

    def provided(self) -> dict[str, str]:
        """What programs of other layers find in the image: libraries by name, and loaders by the path that programs name."""
        provided = {}
        for loader in _LOADERS[self._machine]:
            path = self._tree.resolve(loader)
            if path is not None:
                provided[loader] = path
        for directory in self._defaults:
            path, node = self._tree.resolve(directory), self._tree.find(directory)
            if path is None or node is None:
                continue
            for name in sorted(node.children):
                library = self._tree.resolve(posixpath.join(path, name))
                if _SHARED_LIBRARY.fullmatch(name) and not is_loader(name) and library is not None and self._node(library).is_file:
                    provided.setdefault(name, library)
        return provided

    def _find(self, soname: str, origin: str, search: Iterable[str]) -> str | None:
        for candidate in candidates(soname, origin, self._machine, search):
            library = self._tree.resolve(posixpath.join("/", candidate))
            if library is not None and self._fits(library):
                return library
        if "/" in soname:
            return None
        # The loader's cache may name any directory.
        if self._by_name is None:
            self._by_name = {posixpath.basename(path): path for path, _ in self._tree.entries()}
        library = self._tree.resolve(self._by_name.get(soname, "/"))
        return library if library is not None and self._fits(library) else None

    def _fits(self, library: str) -> bool:
        """A directory for other machines may come first."""
        node = self._node(library)
        if node.content is None:
            return False
        with node.content.file.open("rb") as stream:
            stream.seek(node.content.start)
            head = stream.read(min(node.content.size, len(ELF_MAGIC)))
        if head != ELF_MAGIC:
            return False
        facts = _elf_facts(_copy(node, self._scratch / "candidate"), library)
        return (facts.machine, facts.bits) == (self._machine, 64)

    def _node(self, path: str) -> Node:
        node = self._tree.find(path)
        assert node is not None
        return node

    def _default_directories(self) -> list[str]:
        """By the loader's configuration in the image, of which a copy is made."""
        root = self._scratch / "root"
        names = ["/etc/ld.so.conf", f"/etc/ld-musl-{self._machine}.path"]
        included = self._tree.find("/etc/ld.so.conf.d")
        names += [f"/etc/ld.so.conf.d/{name}" for name in sorted(included.children)] if included is not None else []
        for name in names:
            node = self._tree.find(name)
            if node is not None and node.is_file:
                (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
                _copy(node, root / name[1:])
        return default_directories(self._machine, root, self._interpreter)


def _copy(node: Node, destination: Path) -> Path:
    assert node.content is not None
    with node.content.file.open("rb") as stream, destination.open("wb") as copy:
        stream.seek(node.content.start)
        copy_bytes(stream, copy, node.content.size)
    return destination


def _elf_facts(file: Path, path: str) -> ElfFacts:
    with file.open("rb") as stream:
        return read_elf(stream, readable(path))
