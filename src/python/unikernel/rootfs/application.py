"""The application's own layer: from what a build system packaged (a PEX, an ELF program, an archive, a directory) to files at their
places, and the command that starts it.

Places: a PEX's code goes to /app, a single program to /app/NAME, and an archive's files to where their paths say, from /.
"""

from __future__ import annotations

import configparser
import lzma
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unikernel.digests import file_sha256
from unikernel.elf import ElfFacts, ElfKind, is_elf, read_elf_file, strip_elf
from unikernel.errors import UnikernelError
from unikernel.library_os.requirements import app_kind
from unikernel.rootfs.elf_scan import follow, note_tls, scan_elf_files
from unikernel.rootfs.layer import Layer, LayerIndex, normalise
from unikernel.rootfs.libraries import check_machine
from unikernel.rootfs.needs import Need, program_needs, tree_needs
from unikernel.rootfs.pex import PexFacts, is_pex, unpack_pex
from unikernel.rootfs.python_runtime import PythonRuntime, add_python_tree
from unikernel.sbom.component import Component, ComponentKind, files_digest

APPLICATION_DIRECTORY = "/app"
_PROGRAMS = (ElfKind.STATIC, ElfKind.STATIC_PIE, ElfKind.DYNAMIC)
_LAUNCHER = f"{APPLICATION_DIRECTORY}/__main__.py"
# Truncated, damaged, encrypted (RuntimeError), or compressed in a way that this Python does not know (NotImplementedError).
_BROKEN_ARCHIVE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError)


@dataclass
class Start:
    """How the application starts: the program, its argv (with argv[0]), and what its environment has to hold."""

    program: str
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RawDistributions:
    """The distributions of a PEX as it has them, one a name in a directory, and the interpreters that they were resolved for."""

    directory: Path
    interpreter_constraints: tuple[str, ...]


@dataclass
class Application:
    """`distributions` is None for everything that is not a PEX."""

    layer: Layer
    index: LayerIndex
    start: Start
    distributions: RawDistributions | None = None


def build_application(
    root: Path,
    artifacts: Sequence[str],
    *,
    executable: str | None,
    runtime: PythonRuntime | None,
    machine: str,
    strip: str | None = None,
    scratch: Path,
) -> Application:
    """`artifacts` are paths relative to `root`; `executable` names the program inside an archive or a directory.

    With `strip` (GNU or LLVM strip) a program loses its symbols. An archive's files are laid out as they are.

    Raises UnikernelError when there is nothing that can run, or something that cannot run on `machine`.
    """
    application = _application(root, artifacts, executable, runtime, machine, strip, scratch)
    application.index.components.append(_component(root, artifacts))
    return application


def stripped_program(root: Path, artifacts: Sequence[str]) -> dict[str, Path]:
    """What `build_application` strips: a single program, by its path in the image, as it was packaged."""
    only = root / artifacts[0] if len(artifacts) == 1 else None
    if only is None or not only.is_file() or is_pex(only) or not is_elf(only):
        return {}
    return {f"{APPLICATION_DIRECTORY}/{only.name}": only}


def _component(root: Path, artifacts: Sequence[str]) -> Component:
    """The application as it was packaged: one file, or several."""
    files = {}
    for artifact in artifacts:
        path = root / artifact
        for file in sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,):
            files[str(file.relative_to(root))] = file_sha256(file)
    digest = files[artifacts[0]] if list(files) == [artifacts[0]] else files_digest(files)
    return Component(ComponentKind.APPLICATION, Path(artifacts[0]).name, sha256=digest)


def _application(
    root: Path,
    artifacts: Sequence[str],
    executable: str | None,
    runtime: PythonRuntime | None,
    machine: str,
    strip: str | None,
    scratch: Path,
) -> Application:
    layer = Layer("application")
    only = root / artifacts[0] if len(artifacts) == 1 else None
    if only is not None and is_pex(only):
        _no_executable(executable, only.name)
        return _python_application(layer, only, runtime, machine, scratch)
    if only is not None and only.is_file() and is_elf(only):
        _no_executable(executable, only.name)
        program = f"{APPLICATION_DIRECTORY}/{only.name}"
        check_machine(read_elf_file(only), only.name, machine)
        layer.add_file(program, _stripped(only, strip, scratch), 0o755)
        return _native_application(layer, program, machine, symbols=only)
    _lay_out(layer, root, artifacts, scratch)
    return _application_in_tree(layer, executable, runtime, machine, scratch)


def _no_executable(executable: str | None, name: str) -> None:
    if executable is not None:
        raise UnikernelError(
            f"`executable` is set to {executable!r}, but the application is one program, {name}: leave `executable` out."
        )


# --- native programs ----------------------------------------------------------------------------------------------


def _native_application(
    layer: Layer, program: str, machine: str, name: str | None = None, *, symbols: Path | None = None
) -> Application:
    """`name` is the path to start it by, if that is not `program` itself; `symbols` is the program before it was stripped."""
    source = _source(layer, program)
    facts = read_elf_file(source)
    check_machine(facts, posixpath.basename(program), machine)
    if facts.kind not in _PROGRAMS:
        raise UnikernelError(
            f"{posixpath.basename(program)} is an ELF {facts.kind.value}, not a program: name a target that packages a program."
        )
    layer.make_executable(program)
    index = LayerIndex("application", [])
    found = scan_elf_files(layer, index, machine, roots=[program])
    note_tls(layer, index, found)
    needs = program_needs(symbols or source, facts, posixpath.basename(program))
    for path, elf in found.items():
        if path != program:
            needs += program_needs(_source(layer, path), elf, posixpath.basename(path), certain=False)
    _note_program(index, posixpath.basename(program), facts, needs)
    return Application(layer, index, Start(name or program, [name or program]))


def _note_program(index: LayerIndex, name: str, facts: ElfFacts, needs: Iterable[Need]) -> None:
    """What a library OS has to take: the kind of program that starts, and what the code asks for."""
    index.facts["program"] = {"name": name, "kind": app_kind(facts).value}
    index.facts["needs"] = [need.to_document() for need in needs]


def _stripped(program: Path, strip: str | None, scratch: Path) -> Path:
    if strip is None:
        return program
    stripped = scratch / "stripped"
    strip_elf(strip, program, stripped)
    return stripped


def _source(layer: Layer, path: str) -> Path:
    with layer.open(path) as stream:
        return Path(stream.name)


# --- archives and directories -------------------------------------------------------------------------------------


def _lay_out(layer: Layer, root: Path, artifacts: Sequence[str], scratch: Path) -> None:
    unpacked = scratch / "unpacked"
    for artifact in artifacts:
        path = root / artifact
        if not path.exists():
            raise UnikernelError(f"The application's artifact {artifact} is not there.")
        if path.is_dir():
            layer.add_tree("/", path)
        elif len(artifacts) == 1 and (tarfile.is_tarfile(path) or zipfile.is_zipfile(path)):
            try:
                (_lay_out_tar if tarfile.is_tarfile(path) else _lay_out_zip)(layer, path, unpacked)
            except _BROKEN_ARCHIVE as error:
                raise UnikernelError(f"The archive {path.name} cannot be unpacked: {error}.") from error
        elif len(artifacts) == 1:
            raise UnikernelError(
                f"{path.name} is nothing that can be booted: it is no ELF program, no PEX, no tar or zip archive and no directory."
            )
        else:
            layer.add_file(artifact, path)


def _lay_out_tar(layer: Layer, path: Path, unpacked: Path) -> None:
    unpacked.mkdir()
    links: list[tuple[str, str]] = []
    # A later member of the same name replaces the earlier one, as tar itself does.
    with tarfile.open(path) as archive:
        members = {normalise(member.name): member for member in archive.getmembers()}
        for count, (name, member) in enumerate(sorted(members.items())):
            mode = member.mode & 0o7777
            if name == "/":
                continue
            if member.isdir():
                layer.add_directory(name, mode)
            elif member.issym():
                layer.add_symlink(name, member.linkname)
            elif member.islnk():
                links.append((name, normalise(member.linkname)))
            elif member.isreg():
                source = unpacked / str(count)
                content = archive.extractfile(member)
                assert content is not None
                with content, source.open("wb") as stream:
                    shutil.copyfileobj(content, stream, 1 << 20)
                layer.add_file(name, source, mode)
            elif member.ischr():
                layer.add_character_device(name, member.devmajor, member.devminor, mode)
            else:
                raise UnikernelError(f"{path.name}: {name} is neither a file, a directory nor a link.")
        for name, target in links:
            seen = {name}
            while target not in seen and target in members and members[target].islnk():
                seen.add(target)
                target = normalise(members[target].linkname)
            symlink = layer.symlink_target(target)
            if symlink is not None:
                layer.add_symlink(name, symlink)
            elif target in members and members[target].isreg():
                layer.add_file(name, _source(layer, target), members[name].mode & 0o7777)
            else:
                raise UnikernelError(f"{path.name}: {name} is a hard link to {target}, which the archive does not have.")


def _lay_out_zip(layer: Layer, path: Path, unpacked: Path) -> None:
    unpacked.mkdir()
    # A later member of the same name replaces the earlier one here too.
    with zipfile.ZipFile(path) as archive:
        members = {normalise(info.filename): info for info in archive.infolist()}
        for count, (name, info) in enumerate(sorted(members.items())):
            mode = info.external_attr >> 16
            if info.is_dir():
                layer.add_directory(name)
                continue
            content = archive.read(info)
            if stat.S_ISLNK(mode):
                layer.add_symlink(name, content.decode("utf-8", "surrogateescape"))
                continue
            source = unpacked / str(count)
            source.write_bytes(content)
            # An archive made without modes has none: then what can run, may.
            default = 0o755 if content[:4] == b"\x7fELF" or content[:2] == b"#!" else 0o644
            layer.add_file(name, source, (mode & 0o7777) or default)


def _application_in_tree(
    layer: Layer, executable: str | None, runtime: PythonRuntime | None, machine: str, scratch: Path
) -> Application:
    name, program = _find_executable(layer, executable)
    source = _source(layer, program)
    if is_elf(source):
        return _native_application(layer, program, machine, name)
    if is_pex(source):
        return _python_application(layer, source, runtime, machine, scratch)
    with source.open("rb") as stream:
        first_line = stream.readline(512)
    if not first_line.startswith(b"#!"):
        raise UnikernelError(f"`executable` names {program}, which is neither an ELF program, nor a PEX, nor a script with #!.")
    words = first_line[2:].decode(errors="replace").split()
    interpreter = follow(layer, normalise(words[0])) if words else ""
    if interpreter not in layer.regular_files():
        raise UnikernelError(
            f"{program} is a script for {words[0] if words else 'no interpreter'}, which the application does not bring along: add "
            "the interpreter to the application, or package it as something that runs by itself (such as a PEX)."
        )
    # Who names it wants it to run; an archive made on another system has modes that say otherwise.
    layer.make_executable(program)
    layer.make_executable(interpreter)
    index = LayerIndex("application", [])
    found = scan_elf_files(layer, index, machine, roots=[interpreter])
    note_tls(layer, index, found)
    _note_program(index, posixpath.basename(interpreter), found[interpreter], [])
    return Application(layer, index, Start(name, [name]))


def _find_executable(layer: Layer, executable: str | None) -> tuple[str, str]:
    """The path by which the program is started, and that of its file: a program such as busybox looks at the name of a link to it."""
    if executable is None:
        raise UnikernelError(f"The application is a tree of files: say by `executable` which one starts.{_programs(layer)}")
    name = normalise(executable)
    path = follow(layer, name)
    if path not in layer.regular_files():
        raise UnikernelError(f"`executable` names {executable!r}, which the application does not have.{_programs(layer)}")
    return name, path


def _programs(layer: Layer) -> str:
    programs = [path for path in layer.regular_files() if _is_program(_source(layer, path))]
    return f" It has these programs: {', '.join(programs[:10])}." if programs else ""


def _is_program(source: Path) -> bool:
    try:
        return read_elf_file(source).kind in _PROGRAMS if is_elf(source) else is_pex(source)
    except UnikernelError:
        return False


# --- Python -------------------------------------------------------------------------------------------------------


def _python_application(layer: Layer, pex: Path, runtime: PythonRuntime | None, machine: str, scratch: Path) -> Application:
    if runtime is None:
        raise UnikernelError(
            f"{pex.name} is a PEX, but no Python interpreter is known for it: name the target that builds it, or one that depends on "
            "Python targets."
        )
    unpacked = scratch / "pex"
    facts = unpack_pex(pex, unpacked)
    distributions = unpacked / "distributions"
    name = pex.name[: -len(".pex")] if pex.name.endswith(".pex") else pex.name
    layer.add_bytes(_LAUNCHER, _launcher(facts, f"{APPLICATION_DIRECTORY}/{name}", distributions).encode())
    index = LayerIndex("application", [])
    index.facts["uncompiled"] = add_python_tree(layer, APPLICATION_DIRECTORY, unpacked / "application", runtime, scratch)
    found = scan_elf_files(layer, index, machine)
    note_tls(layer, index, found)
    interpreter = runtime.root / "bin" / posixpath.basename(runtime.executable)
    needs = tree_needs(unpacked / "application", runtime, certain=True)
    _note_program(index, pex.name, read_elf_file(interpreter), needs)
    arguments = [f"python{runtime.facts.series}", "-s", _LAUNCHER, *facts.inject_args]
    # An extension that crashes leaves Python's own traceback too.
    environment = {"LANG": "C.UTF-8", "PYTHONFAULTHANDLER": "1", **facts.inject_env}
    start = Start(runtime.executable, arguments, environment)
    return Application(layer, index, start, RawDistributions(distributions, facts.interpreter_constraints))


def _launcher(facts: PexFacts, argv0: str, distributions: Path) -> str:
    """The script that starts a PEX's entry point, without PEX's own start-up (which takes seconds under emulation)."""
    entry_point = facts.entry_point or (_console_script(facts.script, distributions) if facts.script else None)
    if not entry_point:
        raise UnikernelError(
            "The application is a PEX without an entry point: set `entry_point` or `script` on the target that builds it."
        )
    module, _, attribute = entry_point.replace(" ", "").partition(":")
    lines = ["import sys", f"sys.argv[0] = {argv0!r}"]
    if attribute:
        first = attribute.split(".", 1)[0]
        lines += [f"from {module} import {first}", f"sys.exit({attribute}())"]
    else:
        lines += ["import runpy", f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"]
    # Worker processes of multiprocessing import the main script, under another name.
    return "\n    ".join(['if __name__ == "__main__":', *lines]) + "\n"


def _console_script(script: str, distributions: Path) -> str:
    for path in sorted(distributions.iterdir()):
        text = _entry_points(path)
        parser = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[method-assign,assignment]
        parser.read_string(text)
        for section in ("console_scripts", "gui_scripts"):
            if parser.has_option(section, script):
                return parser.get(section, script).split("[", 1)[0].strip()
    raise UnikernelError(f"No distribution of the application has the console script {script!r}.")


def _entry_points(distribution: Path) -> str:
    if distribution.is_dir():
        return "".join(path.read_text() for path in sorted(distribution.glob("*.dist-info/entry_points.txt")))
    with zipfile.ZipFile(distribution) as archive:
        names = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
        return "".join(archive.read(name).decode() for name in names)
