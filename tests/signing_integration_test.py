"""Images that `pants package` signs, in a repository of their own: with which key, how often, and what says so."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pants_project import PantsProject, completed_processes, files_of
from unikernel.signing.development_key import public_part_path
from unikernel.signing.keys import PrivateKey
from unikernel.testing.cosign import ATTESTATIONS, cosign, verify_blob, verify_blob_attestation
from unikernel.testing.signing import write_key

BUILD = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
unikernel_image(name="unikernel", app=":program", memory="32M", network="none", args=["--loud"])
"""
PASSWORD = "correct horse"
# Pants logs a process that it runs, and none whose result it has.
_GIT = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    with PantsProject(tmp_path_factory.mktemp("repository")) as project:
        project.write("service/main.c", "int main(void) { return 0; }\n")
        project.write("service/BUILD", BUILD)
        # Not dist/, nor what Pants works in: that is no change of the sources either.
        git(project, "init", "--quiet")
        git(project, "remote", "add", "origin", "https://ada:secret@example.org/services.git")
        commit(project)
        yield project


def git(project: PantsProject, *arguments: str) -> str:
    result = subprocess.run([*_GIT, *arguments], cwd=project.root, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return result.stdout.strip()


def commit(project: PantsProject) -> str:
    git(project, "add", "--", "*BUILD", "*.c", "pants.toml")
    git(project, "commit", "--quiet", "--allow-empty", "-m", "All of it")
    return git(project, "rev-parse", "HEAD")


def package(project: PantsProject, *options: str, **environment: str) -> str:
    return project.succeed(*options, "package", "service:unikernel", environment=environment)


def image(project: PantsProject) -> Path:
    return project.root / "dist/service/unikernel.elf"


def written(project: PantsProject) -> dict[str, bytes]:
    """What is in dist/, by path."""
    return {path: (project.root / "dist" / path).read_bytes() for path in project.dist()}


def verify(image: Path, key: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status of `unikernel verify --json`, and what it prints."""
    command = [sys.executable, "-m", "unikernel", "verify", "--json", f"--key={key}", *options, str(image)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, stdout=subprocess.PIPE, env=environment)
    return result.returncode, json.loads(result.stdout)


def provenance(project: PantsProject) -> dict[str, Any]:
    envelope = json.loads(Path(f"{image(project)}.intoto.jsonl").read_bytes())
    return dict(json.loads(base64.b64decode(envelope["payload"]))["predicate"])


def source(project: PantsProject) -> dict[str, Any]:
    return next(item for item in provenance(project)["buildDefinition"]["resolvedDependencies"] if item["name"] == "source")


# --- by default ---------------------------------------------------------------------------------------------------


def test_everything_is_signed_by_a_development_key_that_only_its_user_can_read(project: PantsProject) -> None:
    printed = package(project)
    assert project.dist() == sorted(files_of("service/unikernel"))
    assert f"Made a development key to sign unikernel images with: {project.development_key}" in printed
    assert stat.S_IMODE(project.development_key.stat().st_mode) == 0o600
    key = PrivateKey.load(project.development_key, None).public
    assert f"signed by the development key {key.fingerprint}" in printed
    public = public_part_path(project.development_key)
    assert verify(image(project), public)[0] == 1
    status, result = verify(image(project), public, "--allow-development-keys")
    assert (status, result["holds"], result["key"]) == (0, True, key.fingerprint)


def test_the_provenance_says_what_was_built_of_what_and_by_what(project: PantsProject) -> None:
    package(project)
    document = provenance(project)
    definition = document["buildDefinition"]
    assert definition["externalParameters"]["target"] == "service:unikernel"
    fields = {"app": ":program", "args": ["--loud"], "memory": "32M", "network": "none"}
    assert definition["externalParameters"]["fields"] == fields
    assert definition["internalParameters"] == {"signingKey": "development"}
    inputs = {item["name"] for item in definition["resolvedDependencies"]}
    assert {"app program", "kit", "kernel source", "init", "source"} <= inputs
    assert document["runDetails"]["builder"]["version"]["pants"] == "2.17.1"
    assert set(document["runDetails"]["builder"]["version"]) == {"pants", "pants-unikernel", "unikernel"}


def test_the_commit_is_a_fact_of_the_provenance_and_not_of_the_image(project: PantsProject) -> None:
    first = commit(project)
    package(project)
    uri = "git+https://example.org/services.git"
    assert source(project) == {"name": "source", "digest": {"gitCommit": first}, "annotations": {"dirty": False}, "uri": uri}
    before = written(project)
    second = commit(project)
    assert package_again(project) == set()
    after = written(project)
    assert source(project)["digest"] == {"gitCommit": second}
    assert {path for path in after if after[path] != before[path]} == {"service/unikernel.elf.intoto.jsonl"}
    project.write("service/BUILD", f"{BUILD}# a change\n")
    assert package_again(project) == set()
    assert source(project)["annotations"] == {"dirty": True}
    project.write("service/BUILD", BUILD)
    package(project)
    assert written(project) == after


def package_again(project: PantsProject, *options: str, **environment: str) -> set[str]:
    """The processes that run."""
    return set(completed_processes(package(project, *options, **environment)))


def test_the_same_bytes_whenever_they_are_made(project: PantsProject) -> None:
    package(project)
    before = written(project)
    shutil.rmtree(project.root / "dist")
    package(project, "--no-pantsd")
    assert written(project) == before


def test_it_is_said_when_there_is_no_commit_to_name(tmp_path: Path) -> None:
    with PantsProject(tmp_path / "project") as project:
        project.write("service/main.c", "int main(void) { return 0; }\n")
        project.write("service/BUILD", BUILD)
        printed = package(project)
        assert "The provenance of unikernel images names no source: git rev-parse: fatal: not a git repository" in printed
        key = write_key(tmp_path / "key.pem")
        options = (f"--unikernel-signing-key={key}", "--unikernel-signing-mode=required")
        shutil.rmtree(project.root / "dist")
        status, printed = project.run(*options, "package", "service:unikernel")
        assert status != 0 and "the commit that the sources are of cannot be told" in printed
        assert project.dist() == []


# --- configured keys ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["ecdsa", "ed25519", "encrypted", "cosign", "cosign, password in a file"])
def key(request: Any, tmp_path: Path) -> tuple[Path, bytes | None, tuple[str, ...], dict[str, str]]:
    """A key, its password, and the options and the environment that say so."""
    path = tmp_path / "key.pem"
    if request.param in ("ecdsa", "ed25519"):
        return write_key(path, request.param), None, (f"--unikernel-signing-key={path}",), {}
    if request.param == "encrypted":
        write_key(path, password=PASSWORD.encode())
        options = (f"--unikernel-signing-key={path}", "--unikernel-signing-password-env=KEY_PASSWORD")
        return path, PASSWORD.encode(), options, {"KEY_PASSWORD": PASSWORD}
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "COSIGN_PASSWORD": PASSWORD}
    subprocess.run([cosign(), "generate-key-pair"], cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    path = tmp_path / "cosign.key"
    if request.param == "cosign":
        return path, PASSWORD.encode(), (f"--unikernel-signing-key={path}",), {"COSIGN_PASSWORD": PASSWORD}
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "password").chmod(0o600)
    options = (f"--unikernel-signing-key={path}", f"--unikernel-signing-password-file={tmp_path / 'password'}")
    return path, PASSWORD.encode(), options, {"COSIGN_PASSWORD": "another"}


def test_another_key_signs_again_and_builds_nothing(project: PantsProject, tmp_path: Path, key: Any) -> None:
    path, password, options, environment = key
    package(project)
    before = written(project)
    assert package_again(project, "--unikernel-signing-mode=required", *options, **environment) == set()
    after = written(project)
    assert {name for name in after if after[name] != before[name]} == {name for name in after if ".elf." in name}
    public = PrivateKey.load(path, password).public
    (tmp_path / "key.pub").write_text(public.pem)
    status, result = verify(image(project), tmp_path / "key.pub")
    assert (status, result["key"]) == (0, public.fingerprint)
    assert provenance(project)["buildDefinition"]["internalParameters"] == {"signingKey": "configured"}
    assert verify_blob(image(project), tmp_path / "key.pub").returncode == 0
    for attestation, kind in ATTESTATIONS.items():
        assert verify_blob_attestation(image(project), tmp_path / "key.pub", attestation, kind).returncode == 0


SIGNING_COMMAND = """\
#!{python}
import base64, pathlib, sys
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_pem_private_key
digest = bytes.fromhex(sys.stdin.read())
key = load_pem_private_key(pathlib.Path({key!r}).read_bytes(), None)
print(base64.b64encode(key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))).decode())
with open({calls!r}, "a") as calls:
    print(digest.hex(), file=calls)
"""


@pytest.fixture
def signing_command(tmp_path: Path) -> tuple[tuple[str, ...], Path]:
    """The options for a command whose signatures are new each time, as those of a key management service are; a line in the file for each."""
    key, calls, command = tmp_path / "key.pem", tmp_path / "calls", tmp_path / "sign"
    (tmp_path / "key.pub").write_text(PrivateKey.load(write_key(key), None).public.pem)
    calls.write_text("")
    # In the environment of this test, which has cryptography.
    program = SIGNING_COMMAND.format(python=sys.executable, key=str(key), calls=str(calls))
    (tmp_path / "sign.py").write_text(program)
    command.write_text(f"#!/bin/sh\nPYTHONPATH='{os.pathsep.join(sys.path)}' exec '{sys.executable}' '{tmp_path / 'sign.py'}'\n")
    command.chmod(0o755)
    return (f"--unikernel-signing-command={command}", f"--unikernel-signing-public-key={tmp_path / 'key.pub'}"), calls


def test_a_command_signs_and_what_is_unchanged_is_not_signed_again(
    project: PantsProject, tmp_path: Path, signing_command: tuple[tuple[str, ...], Path]
) -> None:
    options, calls = signing_command
    commit(project)
    package(project, *options)
    assert len(calls.read_text().splitlines()) == 4
    assert verify(image(project), tmp_path / "key.pub")[0] == 0
    signed = written(project)
    for pantsd in ("--pantsd", "--no-pantsd"):
        package(project, pantsd, *options)
        assert len(calls.read_text().splitlines()) == 4
        assert written(project) == signed
    # Another commit is another provenance; the image and its SBOMs are signed as they are.
    commit(project)
    package(project, *options)
    assert len(calls.read_text().splitlines()) == 5
    # What was altered, or is of another image, is not taken for an earlier signature.
    bundle = Path(f"{image(project)}.sigstore.json")
    bundle.write_bytes(bundle.read_bytes().replace(b'"signature":"', b'"signature":"AAAA'))
    package(project, "--no-pantsd", *options)
    assert len(calls.read_text().splitlines()) == 6
    assert verify(image(project), tmp_path / "key.pub")[0] == 0


def test_without_signing_there_are_an_image_its_manifest_and_its_sboms(project: PantsProject) -> None:
    package(project)
    shutil.rmtree(project.root / "dist")
    printed = package(project, "--unikernel-signing-mode=off")
    assert project.dist() == sorted(name for name in files_of("service/unikernel") if ".elf." not in name)
    assert "signed by" not in printed


# --- bad input ----------------------------------------------------------------------------------------------------


def expect_error(project: PantsProject, *options: str, expected: str, **environment: str) -> None:
    shutil.rmtree(project.root / "dist", ignore_errors=True)
    printed = project.fail(*options, "package", "service:unikernel", expected=[expected], environment=environment)
    assert PASSWORD not in printed, printed
    assert project.dist() == []


def test_required_without_a_key(project: PantsProject) -> None:
    expect_error(
        project,
        "--unikernel-signing-mode=required",
        expected='[unikernel-signing].mode is "required", and there is nothing to sign with: set [unikernel-signing].key',
    )


def test_keys_that_cannot_be_used(project: PantsProject, tmp_path: Path) -> None:
    def key(path: Path) -> str:
        return f"--unikernel-signing-key={path}"

    expect_error(
        project, key(tmp_path / "none"), expected=f"[unikernel-signing].key: The key {tmp_path}/none cannot be read: No such file"
    )
    expect_error(project, key(tmp_path), expected="cannot be read: Is a directory")
    garbage = tmp_path / "garbage"
    garbage.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    garbage.chmod(0o600)
    expect_error(project, key(garbage), expected="cannot be used: it is no private key in PEM form")
    rsa = write_key(tmp_path / "rsa", "rsa")
    expect_error(
        project, key(rsa), expected="is a key of a kind that is not used here: ECDSA keys on the curve P-256 and Ed25519 keys are"
    )
    encrypted = write_key(tmp_path / "encrypted", password=PASSWORD.encode())
    expect_error(project, key(encrypted), expected="a password is needed. Set the environment variable COSIGN_PASSWORD")
    expect_error(project, key(encrypted), expected="the password is wrong", COSIGN_PASSWORD="another")
    missing = f"--unikernel-signing-password-file={tmp_path / 'none'}"
    expect_error(project, key(encrypted), missing, expected="[unikernel-signing].password_file: ")


def test_a_key_that_others_can_read_is_warned_of(project: PantsProject, tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.pem")
    key.chmod(0o644)
    printed = package(project, f"--unikernel-signing-key={key}")
    assert f"[unikernel-signing].key: {key} can be read by other users than its own" in printed
    key.chmod(0o600)
    assert "can be read" not in package(project, f"--unikernel-signing-key={key}")


def test_commands_that_do_not_sign(project: PantsProject, tmp_path: Path) -> None:
    public = tmp_path / "key.pub"
    public.write_text(PrivateKey.load(write_key(tmp_path / "key.pem"), None).public.pem)

    def command(script: str) -> tuple[str, ...]:
        program = tmp_path / "sign"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return (f"--unikernel-signing-command={program}", f"--unikernel-signing-public-key={public}")

    cannot = "service:unikernel: it cannot be signed: The signing command"
    expect_error(project, *command("echo no token >&2; exit 3"), expected="ended with status 3: no token")
    expect_error(project, *command("echo garbage!"), expected=cannot)
    expect_error(project, *command("echo AAAA"), expected="printed no signature by the key that it is configured with")
    expect_error(project, *command("sleep 1000"), "--unikernel-signing-command-timeout=1", expected="did not answer within 1 s")
    expect_error(
        project, f"--unikernel-signing-command={tmp_path / 'none'}", command("")[1], expected="cannot be run: No such file"
    )
    expect_error(project, command("")[0], expected="[unikernel-signing].public_key: name the public key that `command` signs with")
    both = (*command(""), f"--unikernel-signing-key={tmp_path / 'key.pem'}")
    expect_error(project, *both, expected="[unikernel-signing]: `key` and `command` are both set")


def test_no_development_key_is_made_in_the_repository_or_where_none_can_be(project: PantsProject, tmp_path: Path) -> None:
    expect_error(project, expected="where no private key may be", XDG_CONFIG_HOME=str(project.root / "configuration"))
    (tmp_path / "file").write_text("")
    expect_error(project, expected="No development key can be kept at", XDG_CONFIG_HOME=str(tmp_path / "file"))
    assert not (project.root / "configuration").exists()


# --- the goal that verifies ---------------------------------------------------------------------------------------


def test_what_was_packaged_is_verified(project: PantsProject, tmp_path: Path) -> None:
    shutil.rmtree(project.root / "dist", ignore_errors=True)
    status, printed = project.run("unikernel-verify", "service:unikernel")
    assert status == 1 and "service:unikernel: dist/service/unikernel.elf is not there to be verified" in printed
    status, printed = project.run("unikernel-verify", "::")
    assert status == 1 and "none of the targets is a packaged unikernel image" in printed
    package(project)
    assert f"{image(project)}: verified" in project.succeed("unikernel-verify", "::")
    # Who names keys has to say that development keys are among them.
    keys = f"--unikernel-verify-keys={public_part_path(project.development_key)}"
    status, printed = project.run("unikernel-verify", keys, "::")
    assert status == 1 and "signed with a development key" in printed
    project.succeed("unikernel-verify", keys, "--allow-development-keys", "::")
    policy = tmp_path / "policy.json"
    policy.write_text('{"library_os": {"minimum_version": "99"}}')
    status, printed = project.run("unikernel-verify", f"--policy={policy}", "::")
    assert status == 1 and "the policy demands at least 99" in printed


def test_what_was_altered_after_it_was_packaged_is_not_verified(project: PantsProject) -> None:
    package(project)
    for path, content in written(project).items():
        file = project.root / "dist" / path
        file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        status, printed = project.run("unikernel-verify", "--json", "service:unikernel")
        (line,) = [line for line in printed.splitlines() if line.startswith("{")]
        assert (status, json.loads(line)["holds"]) == (1, False), path
        file.write_bytes(content)
    project.succeed("unikernel-verify", "service:unikernel")
