"""Packages and runs images by the rules, with this machine's compilers and QEMU."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pants.backend.experimental.cc import register as cc_register
from pants.core.goals import package, run
from pants.core.goals.package import BuiltPackage, BuiltPackageArtifact
from pants.core.goals.run import RunRequest
from pants.core.target_types import ArchiveTarget, FileTarget
from pants.core.target_types import rules as core_target_types_rules
from pants.core.util_rules import archive, source_files, system_binaries
from pants.engine.addresses import Address
from pants.engine.fs import EMPTY_DIGEST, Digest, DigestContents
from pants.engine.internals.scheduler import ExecutionError
from pants.engine.rules import QueryRule
from pants.engine.target import Target
from pants.testutil.rule_runner import RuleRunner

from pants_unikernel import register
from pants_unikernel.dist_files import DistPath
from pants_unikernel.goals.package_image import BuiltUnikernelImage
from pants_unikernel.image_types import UnikernelImageFieldSet
from pants_unikernel.package_types import AnyPackageFieldSet
from unikernel.signing.files import paths_beside

BUILD = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
file(name="settings", source="settings.conf")
archive(name="tree", files=[":settings"], packages=[":program"], format="tar")
unikernel_image(name="image", app=":program", args=["--loud"], network="none", memory="32M")
unikernel_image(
    name="debugged", app=":program", args=["--loud"], network="none", memory="32M", formats=["elf", "debug"], output_path="debugged.elf"
)
unikernel_image(name="tree-image", app=":tree", executable="service/program", network="none", output_path="images/tree.elf")
unikernel_image(
    name="with-files", app=":program", network="none", files=[(":settings", "/etc/service/"), (":program", "/usr/bin/other", "0700")]
)
unikernel_image(name="clash", app=":program", network="none", files=[(":settings", "/etc/"), (":settings", "/etc/settings.conf")])
"""
# As in this repository's own runs of Pants: see `pants`.
_INHERITED = {
    "HOME",
    "PATH",
    "PYENV_ROOT",
    "PANTS_CA_CERTS_PATH",
    "PANTS_PEX_CLI_KNOWN_VERSIONS",
    "PANTS_PEX_CLI_URL_TEMPLATE",
    "PANTS_PYTHON_BOOTSTRAP_SEARCH_PATH",
    "PANTS_SUBPROCESS_ENVIRONMENT_ENV_VARS",
}
SOURCE = "int main(void) { return 0; }\n"


@pytest.fixture(scope="module")
def shared_rule_runner() -> RuleRunner:
    """Return a rule runner whose rules are solved once for all tests."""
    return RuleRunner(
        rules=[
            *archive.rules(),
            *cc_register.rules(),
            *core_target_types_rules(),
            *package.rules(),
            *register.rules(),
            *run.rules(),
            *source_files.rules(),
            *system_binaries.rules(),
            QueryRule(BuiltPackage, [AnyPackageFieldSet]),
            QueryRule(RunRequest, [UnikernelImageFieldSet]),
        ],
        target_types=[ArchiveTarget, FileTarget, *cc_register.target_types(), *register.target_types()],
    )


@pytest.fixture
def rule_runner(shared_rule_runner: RuleRunner, tmp_path: Path) -> RuleRunner:
    """Return the rule runner of a repository with these files, and a user without a key."""
    set_options(shared_rule_runner, tmp_path)
    shared_rule_runner.write_files({"service/BUILD": BUILD, "service/main.c": SOURCE, "service/settings.conf": "loud = true\n"})
    return shared_rule_runner


def set_options(rule_runner: RuleRunner, tmp_path: Path, *options: str) -> None:
    usual = ["--source-root-patterns=/", "--cc-c-executable=['gcc']"]
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "configuration")}
    rule_runner.set_options([*usual, *options], env=environment, env_inherit=_INHERITED)


def target(rule_runner: RuleRunner, name: str) -> Target:
    return rule_runner.get_target(Address("service", target_name=name))


def built(rule_runner: RuleRunner, name: str) -> BuiltPackage:
    return rule_runner.request(BuiltPackage, [AnyPackageFieldSet.create(target(rule_runner, name))])


def contents(rule_runner: RuleRunner, digest: Digest) -> dict[str, bytes]:
    return {file.path: file.content for file in rule_runner.request(DigestContents, [digest])}


def manifest(rule_runner: RuleRunner, name: str) -> dict[str, Any]:
    files = contents(rule_runner, built(rule_runner, name).digest)
    (document,) = [content for path, content in files.items() if path.endswith(".json") and path.count(".") == 1]
    return dict(json.loads(document))


def layers(document: dict[str, Any]) -> Iterable[str]:
    return [layer["name"] for layer in document["rootfs"]["layers"]]


def files_of(image: str) -> list[str]:
    return [image, *paths_beside(image)]


def written(package: BuiltPackage) -> list[str]:
    """Return the paths that `pants package` writes, and removes what was there: the artifacts and the image's documents."""
    paths: list[str] = []
    for artifact in package.artifacts:
        if artifact.relpath is None:
            continue
        assert isinstance(artifact.relpath, DistPath)
        paths += [artifact.relpath, *(artifact.relpath.package.documents if not paths else ())]
    return paths


def test_package_is_an_image_and_what_is_beside_it(rule_runner: RuleRunner) -> None:
    image = built(rule_runner, "image")
    files = contents(rule_runner, image.digest)
    assert set(files) == set(files_of("service/image.elf"))
    assert written(image) == files_of("service/image.elf")
    artifact = image.artifacts[0]
    assert isinstance(artifact, BuiltUnikernelImage)
    elf = files["service/image.elf"]
    assert (artifact.size, artifact.sha256) == (len(elf), hashlib.sha256(elf).hexdigest())
    [line] = artifact.extra_log_lines
    assert artifact.sha256 in line and artifact.key in line
    document = json.loads(files["service/image.json"])
    assert (document["name"], document["target"]) == ("image", "service:image")
    assert document["start"]["program"] == "/app/program"
    assert document["start"]["arguments"] == ["/app/program", "--loud"]
    assert int(document["memory_bytes"]) == 32 << 20
    assert list(layers(document)) == ["base", "application", "configuration"]


def test_log_lists_each_file_only_where_it_is_asked_to(rule_runner: RuleRunner, tmp_path: Path) -> None:
    def entries(package: BuiltPackage) -> list[BuiltPackageArtifact]:
        """Return the artifacts that `pants package` has an entry of its log for."""
        return [artifact for artifact in package.artifacts if artifact.relpath or artifact.extra_log_lines]

    quiet = built(rule_runner, "debugged")
    assert [artifact.relpath for artifact in entries(quiet)] == ["debugged.elf"]
    set_options(rule_runner, tmp_path, "--unikernel-images-list-files")
    listed = built(rule_runner, "debugged")
    assert [artifact.relpath for artifact in entries(listed)] == ["debugged.elf", "debugged.elf.debug"]
    beside = listed.artifacts[0].extra_log_lines[1]
    assert all(path in beside for path in paths_beside("debugged.elf"))
    debug_file = contents(rule_runner, listed.digest)["debugged.elf.debug"]
    assert hashlib.sha256(debug_file).hexdigest() in listed.artifacts[-1].extra_log_lines[0]
    # What is written is the same.
    assert sorted(written(quiet)) == sorted(written(listed))
    assert quiet.digest == listed.digest


def test_image_without_its_tools_is_an_error_or_skipped(rule_runner: RuleRunner, tmp_path: Path) -> None:
    picolibc = (importlib.resources.files("unikernel.library_os") / "picolibc.yaml").read_text()
    description = picolibc.replace("name: picolibc", "name: bare").replace("riscv64-unknown-elf", "no-such-toolchain")
    build = """
library_os(name="bare", description_file="bare.yaml", inputs={})
unikernel_image(name="bare-image", app="service:program", library_os="bare")
"""
    rule_runner.write_files({"bare/BUILD": build, "bare/bare.yaml": description})
    image = rule_runner.get_target(Address("bare", target_name="bare-image"))
    with pytest.raises(ExecutionError, match="bare:bare-image: .*no-such-toolchain-gcc"):
        rule_runner.request(BuiltPackage, [AnyPackageFieldSet.create(image)])
    set_options(rule_runner, tmp_path, "--unikernel-images-missing-tools=skip")
    package = rule_runner.request(BuiltPackage, [AnyPackageFieldSet.create(image)])
    assert package.digest == EMPTY_DIGEST
    [line] = [line for artifact in package.artifacts for line in artifact.extra_log_lines]
    assert line.startswith("Not packaged: bare:bare-image: ") and "no-such-toolchain-gcc" in line
    with pytest.raises(ExecutionError, match="no-such-toolchain-gcc"):
        rule_runner.request(RunRequest, [UnikernelImageFieldSet.create(image)])


def test_output_path_is_that_of_the_image_and_gives_those_of_the_rest(rule_runner: RuleRunner) -> None:
    image = built(rule_runner, "tree-image")
    assert written(image) == files_of("images/tree.elf")
    assert manifest(rule_runner, "tree-image")["start"]["program"] == "/service/program"


def test_a_debug_file_is_beside_an_image_that_does_not_know_of_it(rule_runner: RuleRunner) -> None:
    image = built(rule_runner, "debugged")
    assert written(image) == [*files_of("debugged.elf"), "debugged.elf.debug"]
    files = contents(rule_runner, image.digest)
    debug_file = files["debugged.elf.debug"]
    # The kernel's symbols, and the program's.
    assert b"x86_64_start_kernel\0" in debug_file and b"app/program\0" in debug_file
    assert b"x86_64_start_kernel\0" not in files["debugged.elf"]
    asked = built(rule_runner, "debugged")
    build = BUILD.replace('formats=["elf", "debug"], ', "")
    assert build != BUILD
    rule_runner.write_files({"service/BUILD": build})
    without = built(rule_runner, "debugged")
    assert written(without) == files_of("debugged.elf")
    assert contents(rule_runner, without.digest)["debugged.elf"] == files["debugged.elf"]
    assert contents(rule_runner, asked.digest)["debugged.elf.debug"] == debug_file


def test_extra_files_are_a_layer_of_their_own(rule_runner: RuleRunner) -> None:
    document = manifest(rule_runner, "with-files")
    assert list(layers(document)) == ["base", "application", "files", "configuration"]
    # The application's layer is the same as that of the image without them.
    digests = [
        {layer["name"]: layer["sha256"] for layer in manifest(rule_runner, name)["rootfs"]["layers"]}
        for name in ("image", "with-files")
    ]
    assert digests[0]["application"] == digests[1]["application"]


def test_two_files_that_end_up_at_one_place_are_an_error(rule_runner: RuleRunner) -> None:
    with pytest.raises(ExecutionError, match="service:clash: the `files` field places both .* at /etc/settings.conf"):
        built(rule_runner, "clash")


def test_run_boots_the_packaged_image(rule_runner: RuleRunner) -> None:
    request = rule_runner.request(RunRequest, [UnikernelImageFieldSet.create(target(rule_runner, "image"))])
    assert request.args[-1] == "--"
    assert "{chroot}/service/image.elf" in request.args
    assert "run" in request.args
    # What was packaged is verified first.
    (option,) = [argument for argument in request.args if argument.startswith("--key={chroot}/")]
    key = contents(rule_runner, request.digest)[option[len("--key={chroot}/") :]]
    assert key.startswith(b"-----BEGIN PUBLIC KEY-----")


def test_sboms_list_what_is_in_the_image(rule_runner: RuleRunner) -> None:
    files = contents(rule_runner, built(rule_runner, "with-files").digest)
    document = json.loads(files["service/with-files.cdx.json"])
    assert document["metadata"]["component"]["name"] == "service:with-files"
    components = {component["name"]: component for component in document["components"]}
    assert set(components) == {"linux", "unikernel-init", "program", "settings.conf", "other"}
    assert components["linux"]["version"].startswith("6.")
    settings = components["settings.conf"]
    assert settings["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(b"loud = true\n").hexdigest()}]
    assert settings["properties"] == [{"name": "unikernel:path", "value": "/etc/service/settings.conf"}]
    packages = {package["name"]: package for package in json.loads(files["service/with-files.spdx.json"])["packages"]}
    assert set(packages) == {"service:with-files", *components}
    assert packages["linux"]["licenseDeclared"] == "GPL-2.0-only WITH Linux-syscall-note"
