"""A captured Python interpreter: what `unikernel host capture-python` writes and the steps after it work with.

A directory: `runtime.json`, `bin/python3.X`, `lib/python3.X/` (the standard library, pruned) and `libraries/` (the shared libraries,
its own and its extension modules', with the dynamic loader). In the image it becomes /usr/bin, /usr/lib/python3.X and so on: CPython
finds its library relative to its executable, so one interpreter gives one layer, wherever it was installed on the build machine.
"""

from __future__ import annotations

import json
import os
import posixpath
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

from unikernel.digests import file_sha256
from unikernel.elf import strip_elf
from unikernel.errors import UnikernelError
from unikernel.rootfs.elf_scan import note_tls, scan_elf_files
from unikernel.rootfs.layer import Layer, LayerIndex
from unikernel.sbom.component import Component, ComponentKind
from unikernel.sbom.native_library import native_library

RUNTIME_FACTS = "runtime.json"
# The interpreter's name as a component.
INTERPRETER = "python"


@dataclass(frozen=True)
class RuntimeFacts:
    """`version` is the full one, `series` is X.Y, `cache_tag` is in the names of bytecode files; `tags` are the wheel tags that it
    accepts, best first; `libraries` are sonames.

    `loader` is PT_INTERP, `library_directory` where the image has the libraries. Paths are those in the image. `beside` are libraries
    that the interpreter looks for at a path relative to its own, such as "lib/libpython3.11.so.1.0". `platform_directory` is the name
    of the directory beside bin/ that has the standard library (sys.platlibdir): Fedora's is "lib64". `purls` name the packages that
    brought files, by their paths in the captured directory.
    """

    version: str
    series: str
    cache_tag: str
    machine: str
    site_packages: str
    tags: tuple[str, ...]
    libraries: tuple[str, ...]
    loader: str | None
    library_directory: str
    sha256: str
    beside: tuple[str, ...] = ()
    platform_directory: str = "lib"
    purls: Mapping[str, str] = field(default_factory=dict)

    @property
    def standard_library(self) -> str:
        """Relative to the directory that has bin/."""
        return f"{self.platform_directory}/python{self.series}"


@dataclass(frozen=True)
class PythonRuntime:
    root: Path
    facts: RuntimeFacts

    @classmethod
    def load(cls, root: Path) -> PythonRuntime:
        document = json.loads((root / RUNTIME_FACTS).read_text())
        for key in ("tags", "libraries", "beside"):
            document[key] = tuple(document[key])
        return cls(root, RuntimeFacts(**document))

    @property
    def executable(self) -> str:
        """The interpreter's path in the image."""
        return f"/usr/bin/python{self.facts.series}"

    @property
    def standard_library(self) -> str:
        """The standard library's path in the image."""
        return f"/usr/{self.facts.standard_library}"

    def command(self) -> list[str]:
        """What runs the captured interpreter here, with nothing but captured files."""
        python = str(self.root / "bin" / f"python{self.facts.series}")
        if self.facts.loader is None:
            return [python]
        libraries = self.root / "libraries"
        return [str(libraries / os.path.basename(self.facts.loader)), "--library-path", str(libraries), python]

    def compile(self, sources: Iterable[tuple[Path, Path, str]], *, with_columns: bool = True) -> list[str]:
        """Compiles (source, file to write, path in the image) triples; returns a line for each that does not compile.

        Without columns, tracebacks do not mark the part of a line that failed (PEP 657), and modules are smaller.
        """
        words = (word for triple in sources for word in map(str, triple))
        return self.run_worker("bytecode_worker.py", words, {} if with_columns else {"PYTHONNODEBUGRANGES": "1"})

    def run_worker(self, name: str, words: Iterable[str], environment: Mapping[str, str] = MappingProxyType({})) -> list[str]:
        """Runs a script that is beside this module, with NUL-terminated words on its standard input; returns the lines that it prints."""
        result = subprocess.run(
            [*self.command(), "-s", "-S", "-B", "-W", "ignore", str(Path(__file__).with_name(name))],
            input="".join(word + "\0" for word in words).encode("utf-8", "surrogateescape"),
            # Sets are marshalled in the order of their hashes.
            env={"PYTHONHOME": str(self.root), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if result.returncode != 0:
            raise UnikernelError(
                f"The interpreter of the image (Python {self.facts.version}) does not run on the build machine: "
                + result.stderr.decode(errors="replace").strip()[-2000:]
            )
        return result.stdout.decode(errors="replace").splitlines()


def write_facts(root: Path, facts: RuntimeFacts) -> None:
    (root / RUNTIME_FACTS).write_text(json.dumps(asdict(facts), indent=1, sort_keys=True) + "\n")


def build_runtime_layer(runtime: PythonRuntime, scratch: Path, strip: str) -> tuple[Layer, LayerIndex]:
    """The layer of interpreter, standard library and their shared libraries.

    The standard library is laid out as bytecode without sources: an import of it then costs one `stat` and one read, and it takes a
    third of the space. Its tracebacks keep file names and line numbers.
    """
    facts = runtime.facts
    layer = Layer("python")
    python = scratch / "python"
    strip_elf(strip, runtime.root / "bin" / f"python{facts.series}", python)
    layer.add_file(runtime.executable, python, 0o755)
    for name in ("python3", "python"):
        layer.add_symlink(f"/usr/bin/{name}", f"python{facts.series}")

    library = runtime.root / facts.standard_library
    triples = []
    for source in sorted(path for path in library.rglob("*") if path.is_file()):
        relative = source.relative_to(library)
        destination = f"{runtime.standard_library}/{relative}"
        if source.suffix == ".py":
            pyc = scratch / "pyc" / relative.with_suffix(".pyc")
            pyc.parent.mkdir(parents=True, exist_ok=True)
            triples.append((source, pyc, destination))
        elif source.suffix == ".so":
            stripped = scratch / "so" / relative
            stripped.parent.mkdir(parents=True, exist_ok=True)
            strip_elf(strip, source, stripped)
            layer.add_file(destination, stripped, 0o755)
        else:
            layer.add_file(destination, source, 0o644)
    # A traceback marks columns only in lines of sources, which are not there.
    broken = runtime.compile(triples, with_columns=False)
    if broken:
        raise UnikernelError("The standard library does not compile: " + "; ".join(broken[:3]))
    for _, pyc, destination in triples:
        layer.add_file(destination + "c", pyc, 0o644)
    layer.add_directory(facts.site_packages)

    components = [_interpreter(facts)]
    places = [(f"libraries/{soname}", f"{facts.library_directory}/{soname}") for soname in facts.libraries]
    places += [(name, f"/usr/{name}") for name in facts.beside]
    for name, destination in places:
        stripped = scratch / "stripped" / name
        stripped.parent.mkdir(parents=True, exist_ok=True)
        strip_elf(strip, runtime.root / name, stripped)
        layer.add_file(destination, stripped, 0o755)
        components.append(native_library(destination, file_sha256(stripped), facts.purls.get(name, "")))
    if facts.loader:
        name = f"libraries/{os.path.basename(facts.loader)}"
        layer.add_file(facts.loader, runtime.root / name, 0o755)
        components.append(native_library(facts.loader, file_sha256(runtime.root / name), facts.purls.get(name, "")))

    index = LayerIndex("python", [], components=components, facts={"python": facts.version})
    found = scan_elf_files(layer, index, facts.machine)
    note_tls(layer, index, found)
    return layer, index


def stripped_files(runtime: PythonRuntime) -> dict[str, Path]:
    """What `build_runtime_layer` strips, by its path in the image, as it was captured."""
    facts = runtime.facts
    library = runtime.root / facts.standard_library
    return {
        runtime.executable: runtime.root / "bin" / f"python{facts.series}",
        **{f"{runtime.standard_library}/{path.relative_to(library)}": path for path in sorted(library.rglob("*.so"))},
        **{f"{facts.library_directory}/{soname}": runtime.root / "libraries" / soname for soname in facts.libraries},
        **{f"/usr/{name}": runtime.root / name for name in facts.beside},
    }


def _interpreter(facts: RuntimeFacts) -> Component:
    """With its standard library: one component, whose digest is over all its files as they were captured."""
    purl = facts.purls.get(f"bin/python{facts.series}") or f"pkg:generic/python@{facts.version}"
    return Component(ComponentKind.APPLICATION, INTERPRETER, facts.version, purl, ("Python-2.0",), facts.sha256)


def add_python_tree(layer: Layer, prefix: str, root: Path, runtime: PythonRuntime, scratch: Path) -> list[str]:
    """Adds everything below `root`, with bytecode for each module; returns a line for each module that does not compile."""
    compiled = scratch / "bytecode"
    triples = []
    for source in sorted(path for path in root.rglob("*") if path.is_file()):
        relative = source.relative_to(root)
        destination = f"{prefix}/{relative}"
        layer.add_file(destination, source)
        if source.suffix == ".py":
            pyc = compiled / relative.parent / "__pycache__" / f"{relative.stem}.{runtime.facts.cache_tag}.pyc"
            pyc.parent.mkdir(parents=True, exist_ok=True)
            triples.append((source, pyc, destination))
    uncompiled = runtime.compile(triples) if triples else []
    for _, pyc, destination in triples:
        if pyc.exists():
            layer.add_file(f"{posixpath.dirname(destination)}/__pycache__/{pyc.name}", pyc, 0o644)
    return uncompiled
