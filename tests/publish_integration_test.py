"""`publish` and deployments, with a real registry: what was packaged is pushed, pulled by another client, verified by cosign, and booted."""

from __future__ import annotations

import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machine import boot
from pants_project import PantsProject, completed_processes, plugin_configuration
from unikernel.testing.cosign import run_cosign
from unikernel.testing.debian_package import program
from unikernel.testing.registry import Registry, running_registry

NEW = uuid.uuid4().hex
IMAGE = "formats=['elf', 'container', 'oci'], network='none', memory='32M'"
CONFIGURATION = """
[docker]
default_repository = "{directory}/{name}"
build_args = ["VERSION=1.2.3", "COMMIT"]

[docker.registries.local]
address = "HOST"
default = true
extra_image_tags = ["{build_args.COMMIT}"]

[docker.registries.mirror]
address = "127.0.0.1:1"
skip_push = true

[docker.registries.down]
address = "127.0.0.1:1"
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[PantsProject]:
    configuration = plugin_configuration(extra=CONFIGURATION.replace("HOST", registry.host))
    with PantsProject(tmp_path_factory.mktemp("project"), configuration=configuration, environment={"COMMIT": "abc"}) as project:
        project.write(
            "app/main.c", f'#include <stdio.h>\nconst char made[] = "{NEW}";\nint main(void) {{ puts("hello"); return 5; }}\n'
        )
        build = "cc_sources(name='sources')\ncc_binary(name='program', dependencies=[':sources'])\n"
        build += f"unikernel_image(name='unikernel', app=':program', image_tags=['{{build_args.VERSION}}', 'latest'], {IMAGE})\n"
        build += f"unikernel_image(name='elsewhere', app=':program', registries=['@mirror', '@local'], repository='x/{{name}}', {IMAGE})\n"
        build += f"unikernel_image(name='skipped', app=':program', skip_push=True, {IMAGE})\n"
        build += "unikernel_image(name='plain', app=':program', network='none', memory='32M')\n"
        build += "unikernel_deployment(name='deploy', image=':unikernel', replicas=2, labels={'team': 'web'})\n"
        build += "unikernel_deployment(name='moved', image=':unikernel', deploy_as='unikernel', namespace='web')\n"
        project.write("app/BUILD", build)
        yield project


def publish(project: PantsProject, target: str) -> dict[str, dict[str, Any]]:
    """What is written for deployment tools, by format."""
    output = project.root / "published.json"
    project.succeed("publish", f"--output={output}", target)
    return {item["format"]: item for item in json.loads(output.read_text())}


def skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout


def index_digest(layout: Path) -> str:
    (image,) = json.loads((layout / "index.json").read_text())["manifests"]
    digest = image["digest"]
    assert isinstance(digest, str)
    return digest


@pytest.fixture(scope="module")
def published(project: PantsProject) -> dict[str, dict[str, Any]]:
    project.succeed("package", "app:unikernel")
    before = {path: (project.root / "dist" / path).read_bytes() for path in project.dist()}
    published = publish(project, "app:unikernel")
    # What was packaged is what is pushed.
    assert {path: (project.root / "dist" / path).read_bytes() for path in before} == before
    return published


def test_what_was_packaged_is_in_the_registry(
    project: PantsProject, registry: Registry, published: dict[str, dict[str, Any]]
) -> None:
    repository = f"{registry.host}/app/unikernel"
    for kind, suffix in (("oci", ""), ("container", "-container")):
        item = published[kind]
        assert item["published"] and item["repository"] == repository
        digest = index_digest(project.root / f"dist/app/unikernel.{kind}")
        assert (item["digest"], item["image"]) == (digest, f"{repository}@{digest}")
        assert item["tags"] == [f"{tag}{suffix}" for tag in ("1.2.3", "latest", "abc")]
        for tag in item["tags"]:
            inspected = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{repository}:{tag}"))
            assert inspected["Digest"] == digest


def test_the_pulled_image_boots(project: PantsProject, published: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    skopeo("copy", "--src-tls-verify=false", f"docker://{published['oci']['image']}", f"oci:{tmp_path}/pulled:latest")
    manifest = json.loads((tmp_path / "pulled/blobs" / index_digest(tmp_path / "pulled").replace(":", "/")).read_text())
    (layer,) = manifest["layers"]
    with tarfile.open(tmp_path / "pulled/blobs" / layer["digest"].replace(":", "/")) as archive:
        stream = archive.extractfile("unikernel/unikernel.elf")
        assert stream is not None
        (tmp_path / "unikernel.elf").write_bytes(stream.read())
    for file in (project.root / "dist/app").glob("unikernel.*.json*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "unikernel.json").write_bytes((project.root / "dist/app/unikernel.json").read_bytes())
    status, console = boot(tmp_path / "unikernel.elf", key=project.development_key.with_suffix(".pub"))
    assert status == 5 and "hello" in console


def test_cosign_verifies_what_was_pushed(project: PantsProject, published: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    key = project.development_key.with_suffix(".pub")
    options = [f"--key={key}", "--insecure-ignore-tlog=true", "--allow-http-registry=true"]
    root = tmp_path / "root.json"
    root.write_text('{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')
    current = [*options, "--new-bundle-format=true", f"--trusted-root={root}"]
    for kind, types in (("oci", ("slsaprovenance1", "spdxjson", "cyclonedx")), ("container", ("slsaprovenance1",))):
        image = published[kind]["image"]
        for form in (options, current):
            verified = run_cosign("verify", *form, image)
            assert verified.returncode == 0, verified.stdout
            for predicate in types:
                verified = run_cosign("verify-attestation", *form, f"--type={predicate}", image)
                assert verified.returncode == 0, verified.stdout
    other = tmp_path / "other.pub"
    openssl = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(tmp_path / "other.pem")]
    subprocess.run(openssl, check=True)
    subprocess.run(["openssl", "ec", "-in", str(tmp_path / "other.pem"), "-pubout", "-out", str(other)], check=True)
    refused = run_cosign("verify", f"--key={other}", *options[1:], published["oci"]["image"])
    assert refused.returncode != 0


def test_publishing_again_sends_and_makes_nothing(
    project: PantsProject, registry: Registry, published: dict[str, dict[str, Any]]
) -> None:
    uploads = len(registry.uploads())
    processes = completed_processes(project.succeed("publish", "app:unikernel"))
    assert processes == [] and len(registry.uploads()) == uploads


def test_a_registry_that_is_skipped(project: PantsProject, registry: Registry) -> None:
    printed = project.succeed("publish", "app:elsewhere")
    assert "127.0.0.1:1/x/elsewhere:latest skipped (by `skip_push` of the registry mirror)" in printed
    assert f"{registry.host}/x/elsewhere:latest published" in printed


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("app:skipped", "/app/skipped:latest skipped (by `skip_push` on app:skipped)"),
        ("app:plain", "app:plain skipped (its `formats` have neither oci nor container)"),
    ],
)
def test_what_is_not_published_says_why(project: PantsProject, target: str, expected: str) -> None:
    assert expected in project.succeed("publish", target)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"registries": ["@none"]}, "bad:bad: the `registries` field: There is no Docker registry configured with alias: none"),
        ({"image_tags": ["{no}"]}, "bad:bad: the `image_tags` field is '{no}'"),
        ({"image_tags": ["a b"]}, "bad:bad: the `image_tags` field: 'a b-container' is no tag"),
        ({"repository": "{build_args.NONE}"}, "bad:bad: the `repository` field is '{build_args.NONE}'"),
        ({"repository": "a//b"}, "/a//b' names no repository: 'a//b' is not made of a-z"),
        ({"registries": ["not a host"]}, "'not a host' is no host"),
        ({"formats": ["container"]}, "name elf, and each other format once"),
        ({"output_path": "x/y.oci"}, "bad:bad: the `output_path` field is 'x/y.oci', where what is beside the image is written"),
        ({"output_path": "x/y.container"}, "end it with another word than .container, such as .elf"),
    ],
)
def test_names_that_no_registry_takes_are_refused_before_anything_is_built(
    project: PantsProject, fields: dict[str, Any], expected: str
) -> None:
    settings = {"app": "//app:program", "network": "none", "formats": ["elf", "oci"], **fields}
    build = f"unikernel_image(name='bad', {', '.join(f'{name}={value!r}' for name, value in settings.items())})\n"
    project.refuse(build, expected)


def test_images_whose_layouts_would_be_written_to_one_path(project: PantsProject) -> None:
    build = "".join(
        f"unikernel_image(name='{name}', app='//app:program', network='none', formats=['elf', 'container'], output_path='x/y.{name}')\n"
        for name in ("bad", "elf")
    )
    project.refuse(build, "bad:bad and bad:elf both are written to x/y.bad: give each its own `output_path`")


def test_a_registry_that_is_down(project: PantsProject) -> None:
    project.write("down/BUILD", f"unikernel_image(name='unikernel', app='//app:program', registries=['@down'], {IMAGE})\n")
    status, printed = project.run("publish", "down:unikernel")
    assert status != 0
    assert "127.0.0.1:1" in printed and "failed" in printed and "Traceback" not in printed


# --- deployments --------------------------------------------------------------------------------------------------


def kustomize(directory: Path) -> str:
    """What kubectl would apply."""
    command = [program("kubectl", "kubernetes-client"), "kustomize", str(directory)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout


def test_manifests_name_what_is_pushed_and_one_line_moves_a_service(
    project: PantsProject, published: dict[str, dict[str, Any]]
) -> None:
    project.succeed("package", "app:deploy", "app:moved")
    directories = [project.root / "dist/app" / name for name in ("deploy", "moved")]
    for directory in directories:
        assert published["container"]["image"] in (directory / "deployment.container.yaml").read_text()
        assert published["oci"]["image"] in (directory / "deployment.unikernel.yaml").read_text()
    container, unikernel = (kustomize(directory) for directory in directories)
    assert f"image: {published['container']['image']}" in container and "runtimeClassName" not in container
    assert f"image: {published['oci']['image']}" in unikernel and "runtimeClassName: urunc" in unikernel
    assert "replicas: 2" in container and "team: web" in container and "namespace: web" in unikernel


def test_deploying_publishes_and_applies(project: PantsProject, tmp_path: Path, published: dict[str, dict[str, Any]]) -> None:
    """There is no cluster here: what stands for kubectl shows what it is given."""
    tool = tmp_path / "kubectl"
    tool.write_text('#!/bin/sh\necho "applied: $@"\ngrep -rho "image: .*" "${3#--kustomize=}"\n')
    tool.chmod(0o755)
    path = f"{tmp_path}:{project.environment['PATH']}"
    printed = project.succeed("experimental-deploy", "app:moved", environment={"PATH": path})
    assert "app/unikernel:latest published" in printed
    applied = printed.partition("applied: ")[2]
    assert applied.startswith("apply --server-side --kustomize=app/moved")
    assert published["oci"]["image"] in applied
    assert "app:moved deployed" in printed


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image": "//app:program"}, "bad:bad: the `image` field names //app:program, a `cc_binary`; name a `unikernel_image`"),
        ({"image": "//app:plain"}, "bad:bad: the `formats` of app:plain have neither oci nor container"),
        ({"registry": "@none"}, "bad:bad: the `registry` field: There is no Docker registry configured with alias: none"),
        ({"registry": "@down"}, "bad:bad: app:unikernel is not pushed to @down, so there is nothing that a cluster could pull"),
        ({"replicas": 0}, "The `replicas` field in target bad:bad is not valid: 0 is not 1 or more"),
        ({"deploy_as": "pod"}, "deploy_as"),
        ({"labels": {"a b": "c"}}, "labels"),
        ({"namespace": "Not A Name"}, "namespace"),
    ],
)
def test_deployments_that_cannot_be(project: PantsProject, fields: dict[str, Any], expected: str) -> None:
    settings = {"image": "//app:unikernel", **fields}
    build = f"unikernel_deployment(name='bad', {', '.join(f'{name}={value!r}' for name, value in settings.items())})\n"
    project.refuse(build, expected)
