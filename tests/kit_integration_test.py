"""Two machines of a team: one compiles a kernel and exports its kit, and the other has neither a
compiler nor a kernel source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine import boot
from pants_project import PantsProject, completed_processes
from unikernel.linux.kit_key import key_ingredients
from unikernel.linux.kit_store import Trust, verify_kit
from unikernel.signing.keys import PrivateKey
from unikernel.testing.cosign import verify_blob
from unikernel.testing.programs import compile_c
from unikernel.testing.signing import write_key

BUILD = """\
file(name="program", source="program")
archive(name="app", files=[":program"], format="tar")
unikernel_image(name="unikernel", app=":app", executable="app/program", memory="32M", network="none")
"""
DOCUMENTS = (".elf", "unikernel.json", ".spdx.json", ".cdx.json")
# What compiles, by the start of its name: Debian has all of them in /usr/bin.
COMPILERS = ("bison", "c++", "c89", "c99", "cc", "clang", "cpp", "flex", "g++", "gcc", "make", "musl-gcc", "x86_64-linux-gnu-g")
NO_SOURCE = "--unikernel-linux-source=['/nowhere/linux-*.tar.xz']"
COMPILING = ("Compile ", "Configure the kernel", "Find the kernel's source", "Read the kernel's options")


@dataclass(frozen=True)
class Exporter:
    """The machine with a compiler. `archive` is the kit that it exported, and `public_key` the key
    that signed it; `program` prints `mark`.
    """

    project: PantsProject
    program: bytes
    mark: str
    key: Path
    printed: str

    @property
    def archive(self) -> Path:
        return self.project.root / f"dist/kits/{key_ingredients([]).key}.kit"

    @property
    def public_key(self) -> Path:
        return self.key.with_suffix(".pub")


def compiled(printed: str) -> list[str]:
    """Return the processes that compile, or look for what is compiled, among those that ran."""
    return [process for process in completed_processes(printed) if process.startswith(COMPILING)]


def make_project(root: Path, program: bytes, **environment: str) -> PantsProject:
    project = PantsProject(root, environment=environment)
    project.write("app/program", program).chmod(0o755)
    project.write("app/BUILD", BUILD)
    return project


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    directory = tmp_path_factory.mktemp("exporter")
    mark = uuid.uuid4().hex
    source = f'#include <stdio.h>\nint main(void) {{ return puts("{mark}") < 0; }}\n'
    program = compile_c(directory / "program", source, "-static", "-s").read_bytes()
    key = write_key(directory / "key.pem")
    key.with_suffix(".pub").write_text(PrivateKey.load(key, None).public.pem)
    with make_project(directory / "repository", program) as project:
        options = [f"--unikernel-signing-key={key}", "--unikernel-linux-kits=[]"]
        printed = project.succeed(*options, "unikernel-kit-export", "::")
        project.succeed(*options, "package", "::")
        yield Exporter(project, program, mark, key, printed)


@dataclass(frozen=True)
class Importer:
    """The machine without: its programs are those of this one but for what compiles, and its store
    is empty at first.
    """

    project: PantsProject
    data: Path
    tools: Path

    @property
    def options(self) -> list[str]:
        return [NO_SOURCE, f"--unikernel-linux-search-path=['{self.tools}']"]

    def trusting(self, key: Path) -> list[str]:
        return [*self.options, f"--unikernel-linux-kit-keys=['{key}']"]

    def unikernel(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "unikernel", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XDG_DATA_HOME": str(self.data)},
            check=True,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        ).stdout


@pytest.fixture(scope="module")
def importer(tmp_path_factory: pytest.TempPathFactory, exporter: Exporter) -> Iterator[Importer]:
    directory = tmp_path_factory.mktemp("importer")
    tools, data = directory / "tools", directory / "data"
    tools.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith(COMPILERS):
            (tools / program.name).symlink_to(program)
    for name in ("gcc", "cc", "make", "flex", "bison"):
        assert shutil.which(name, path=str(tools)) is None
    environment = {"PATH": str(tools), "XDG_DATA_HOME": str(data), "PANTS_LOCAL_STORE_DIR": str(directory / "store")}
    with make_project(directory / "repository", exporter.program, **environment) as project:
        yield Importer(project, data, tools)


def test_what_is_exported_is_signed_and_named_by_its_cache_key(exporter: Exporter) -> None:
    key = PrivateKey.load(exporter.key, None).public
    stored = verify_kit(exporter.archive, Trust([key]), expected=key_ingredients([]).key)
    assert stored.contents.document.differences == []
    for line in (
        f"Wrote dist/kits/{stored.key}.kit",
        f"SHA-256 {stored.sha256}",
        f"Linux {stored.contents.facts.version}, cache key {stored.key}, the base configuration",
        f"signed by the key {key.fingerprint}",
        f"next, on each machine: unikernel kit import dist/kits/{stored.key}.kit --key PUB",
    ):
        assert line in exporter.printed
    assert verify_blob(exporter.archive, exporter.public_key).returncode == 0


def test_exporting_again_gives_the_same_bytes(exporter: Exporter) -> None:
    before = exporter.project.digests(".kit", ".kit.sigstore.json")
    assert len(before) == 2
    shutil.rmtree(exporter.project.root / "dist/kits")
    options = [f"--unikernel-signing-key={exporter.key}", "--unikernel-linux-kits=[]"]
    exporter.project.succeed(*options, "unikernel-kit-export", "app:unikernel")
    assert exporter.project.digests(".kit", ".kit.sigstore.json") == before


def test_what_cannot_be_exported(exporter: Exporter) -> None:
    exporter.project.fail("unikernel-kit-export", expected=["Usage: pants unikernel-kit-export [OPTION...] TARGET... "])
    exporter.project.fail("unikernel-kit-export", "app:program", expected=["none of the targets is a `unikernel_image`"])
    off = "--unikernel-signing-mode=off"
    exporter.project.fail(off, "unikernel-kit-export", "::", expected=['mode is "off", but only signed kits'])


def test_without_a_kit_the_error_names_both_ways_out(importer: Importer) -> None:
    key = key_ingredients([]).key
    expected = [
        "not found on",
        "apt-get install",
        f"Or import a prebuilt kit with the cache key {key}: unikernel kit import {key}.kit --key PUB",
    ]
    importer.project.fail(*importer.options, "package", "::", expected=expected)


def test_a_kit_makes_the_same_image_without_a_compiler(importer: Importer, exporter: Exporter) -> None:
    printed = importer.unikernel("kit", "import", str(exporter.archive), f"--key={exporter.public_key}")
    imported = importer.data / "unikernel/kits" / exporter.archive.name
    assert printed.startswith(f"{imported}\n")
    # Without a key to trust, it is not used, and that is said.
    importer.project.fail(
        *importer.options,
        *("package", "::"),
        expected=[f"The prebuilt kit {imported} is not used", f"Or use the kit {imported}: set [unikernel-linux].kit_keys"],
    )
    printed = importer.project.succeed(*importer.trusting(exporter.public_key), "package", "::")
    assert f"Linux comes from the prebuilt kit {imported}" in printed
    assert not compiled(printed), printed
    assert "Link app:unikernel" in completed_processes(printed)
    digests = importer.project.digests(*DOCUMENTS)
    assert len(digests) == len(DOCUMENTS) and digests == exporter.project.digests(*DOCUMENTS)
    image = importer.project.root / "dist/app/unikernel.elf"
    status, console = boot(image, key=importer.project.development_key.with_suffix(".pub"))
    assert status == 0 and exporter.mark in console, console


def test_kits_in_targets(importer: Importer, exporter: Exporter) -> None:
    names = (exporter.archive.name, f"{exporter.archive.name}.sigstore.json")
    for name in names:
        importer.project.write(f"kits/{name}", (exporter.archive.parent / name).read_bytes())
    importer.project.write("kits/BUILD", 'files(name="kits", sources=["*.kit", "*.kit.sigstore.json"])\n')
    options = [*importer.trusting(exporter.public_key), "--unikernel-linux-kits=['//kits:kits']"]
    printed = importer.project.succeed(*options, "package", "::")
    assert f"Linux comes from the prebuilt kit {names[0]} of //kits:kits" in printed
    assert importer.project.digests(*DOCUMENTS) == exporter.project.digests(*DOCUMENTS)


def test_a_kit_that_does_not_hold_is_an_error(importer: Importer, exporter: Exporter, tmp_path: Path) -> None:
    """Also where the kernel could be compiled: by the machine with a compiler."""
    archive, bundle = tmp_path / exporter.archive.name, tmp_path / f"{exporter.archive.name}.sigstore.json"

    def restore() -> None:
        for file in (archive, bundle):
            shutil.copy(exporter.archive.parent / file.name, file)

    def refused(*expected: str, key: Path = exporter.public_key, path: Path = tmp_path) -> None:
        options = [f"--unikernel-linux-kits=['{path}']", f"--unikernel-linux-kit-keys=['{key}']"]
        printed = exporter.project.fail(*options, "package", "::", expected=expected)
        assert not compiled(printed), printed

    restore()
    other = tmp_path / "other.pub"
    other.write_text(PrivateKey.load(write_key(tmp_path / "other.pem"), None).public.pem)
    refused(f"The kit {archive}: ", "signed by a key that is not among those that are trusted here", key=other)
    content = archive.read_bytes()
    archive.write_bytes(content[:5000] + b"!" + content[5001:])
    refused(f"The kit {archive}: ", "is the signature of another file")
    restore()
    bundle.unlink()
    refused(f"The kit {archive} cannot be used: ", "No such file")
    refused("is not there. Correct the path", path=tmp_path / "none.kit")
    wrong = tmp_path / "wrong.kit"
    wrong.write_bytes(content)
    refused("wrong.kit is not the name of a kit", path=wrong)
    # One that holds, by the name that another configuration asks for.
    restore()
    renamed = archive.with_name(f"{key_ingredients(['CONFIG_SMP=y']).key}.kit")
    archive.rename(renamed)
    bundle.rename(renamed.with_name(f"{renamed.name}.sigstore.json"))
    options = [f"--unikernel-linux-kits=['{renamed}']", f"--unikernel-linux-kit-keys=['{exporter.public_key}']"]
    options.append("--unikernel-linux-kernel-config=['CONFIG_SMP=y']")
    exporter.project.fail(*options, "package", "::", expected=[f"The kit {renamed}: ", "which its name is not"])
    # No key at all, for kits that an option names.
    options = [f"--unikernel-linux-kits=['{exporter.archive}']"]
    exporter.project.fail(*options, "package", "::", expected=["kit_keys names no key that may sign kits. Set it to"])


def test_a_development_key_has_to_be_allowed(exporter: Exporter, tmp_path: Path) -> None:
    with make_project(tmp_path / "repository", exporter.program) as project:
        printed = project.succeed("unikernel-kit-export", "::")
        assert "signed by the development key" in printed and "--key PUB --allow-development-keys" in printed
        key = project.development_key.with_suffix(".pub")
        options = ["--unikernel-linux-kits=['dist/kits']", f"--unikernel-linux-kit-keys=['{key}']"]
        project.fail(*options, "package", "::", expected=["is signed by a development key, and none is accepted here"])
        project.succeed(*options, "--unikernel-linux-allow-development-keys", "package", "::")
        assert project.digests(*DOCUMENTS) == exporter.project.digests(*DOCUMENTS)
