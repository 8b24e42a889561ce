"""Publishing to a real registry, with the real skopeo and cosign."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import re
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from unikernel.cli import main
from unikernel.oci.layout import INDEX, MANIFEST, REFERENCE, Descriptor, Layout
from unikernel.testing.cosign import run_cosign, trusted_root
from unikernel.testing.layouts import SampleLayout, read_document, sample_layout
from unikernel.testing.registry import Answer, Asked, Proxy, Registry, Request, running_proxy, running_registry

_ACCEPT = f"{MANIFEST}, {INDEX}"
_MIB = 1 << 20
_PASSWORD = "pass-w0rd"
# Requests by which a signed layout of one image comes to be in a registry, but for those that send a blob's bytes.
_CHANGES = 22


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials but those of a test."""
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "SSL_CERT_FILE", *proxies):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with running_registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def proxy(registry: Registry) -> Iterator[Proxy]:
    with running_proxy(registry.host) as proxy:
        yield proxy


def _publish(root: Path, to: str, *options: str, tags: str = "v1") -> int:
    return main(["publish", "--layout", str(root), "--to", to, "--tag", *tags.split(), *options])


def _get(host: str, path: str) -> tuple[int, bytes]:
    try:
        request = urllib.request.Request(f"http://{host}/v2/{path}", headers={"Accept": _ACCEPT})
        with urllib.request.urlopen(request, timeout=30) as stream:
            return stream.status, stream.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def _document(host: str, path: str) -> dict[str, Any]:
    status, content = _get(host, path)
    assert status == 200, path
    document: dict[str, Any] = json.loads(content)
    return document


def _tags(host: str, repository: str) -> list[str]:
    status, content = _get(host, f"{repository}/tags/list")
    return sorted(json.loads(content)["tags"] or ()) if status == 200 else []


def _pull(reference: str, root: Path) -> None:
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false"]
    subprocess.run([*command, f"docker://{reference}", f"oci:{root}:pulled"], check=True)


def _tag_puts(requests: list[Request]) -> list[str]:
    found = (re.fullmatch(r"/v2/.*/manifests/([^:]*)", request.path) for request in requests if request.method == "PUT")
    return [match[1] for match in found if match]


# --- what is pushed -----------------------------------------------------------------------------------------------


def test_what_is_pushed_is_pulled_by_its_digest(tmp_path: Path, registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    root, image = sample_layout(tmp_path / "layout", 1000, 3 * _MIB)
    output = tmp_path / "new/published.json"
    to = f"{registry.host}/team/greeter"
    assert _publish(root, to, "--output", str(output), tags="v1 stable") == 0
    printed = capfd.readouterr()
    assert printed.out == f"pushed {to}@{image.digest} (tags v1, stable)\n"
    assert f"{to}: pushing image latest {image.digest} (3.0 MiB)\n{to}: setting tag v1\n" in printed.err
    _pull(f"{to}@{image.digest}", tmp_path / "pulled")
    for blob in (root / "blobs/sha256").iterdir():
        assert (tmp_path / "pulled/blobs/sha256" / blob.name).read_bytes() == blob.read_bytes()
    assert _tags(registry.host, "team/greeter") == ["stable", "v1"]
    for tag in ("stable", "v1"):
        assert _get(registry.host, f"team/greeter/manifests/{tag}")[1] == (root / image.blob).read_bytes()
    (published,) = json.loads(output.read_text())["images"]
    total = sum(path.stat().st_size for path in (root / "blobs/sha256").iterdir())
    assert published == {
        "reference": f"{to}@{image.digest}",
        "registry": registry.host,
        "repository": "team/greeter",
        "name": "latest",
        "tags": ["v1", "stable"],
        "media_type": MANIFEST,
        "digest": image.digest,
        "size": image.size,
        "total_size": total,
        "signatures": [],
        "attestations": [],
        "referrers": [],
    }


def test_a_second_push_sends_nothing(tmp_path: Path, registry: Registry) -> None:
    root, _ = sample_layout(tmp_path / "layout", 1000, signed=True)
    assert _publish(root, f"{registry.host}/a") == 0
    assert registry.uploads()
    before = len(registry.requests())
    assert _publish(root, f"{registry.host}/a") == 0
    assert {request.method for request in registry.requests()[before:]} == {"GET"}
    assert _publish(root, f"{registry.host}/a", tags="v1 v2") == 0
    puts = [request.path for request in registry.requests()[before:] if request.method != "GET"]
    assert puts == ["/v2/a/manifests/v2"]


def test_another_repository_of_the_registry_mounts_blobs(tmp_path: Path, registry: Registry) -> None:
    root, _ = sample_layout(tmp_path / "layout", 1000, _MIB)
    assert _publish(root, f"{registry.host}/a") == 0
    assert len(registry.uploads()) == 3
    assert _publish(root, f"{registry.host}/b") == 0
    started = [request.status for request in registry.requests("POST", "^/v2/b/blobs/uploads/")]
    # 201 is a blob that was mounted. skopeo sends a configuration each time.
    assert sorted(started) == [201, 201, 202]
    assert len(registry.uploads()) == 4


def test_several_repositories_at_once(tmp_path: Path, registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    root, image = sample_layout(tmp_path / "layout")
    output = tmp_path / "published.json"
    assert _publish(root, f"{registry.host}/a", "--to", f"{registry.host}/b", "--output", str(output)) == 0
    assert capfd.readouterr().out == "".join(f"pushed {registry.host}/{name}@{image.digest} (tags v1)\n" for name in "ab")
    assert [published["repository"] for published in json.loads(output.read_text())["images"]] == ["a", "b"]


def test_an_index_of_images_and_a_further_name(tmp_path: Path, registry: Registry) -> None:
    sample = SampleLayout(tmp_path / "layout")
    one, two = sample.image(100), sample.image(200, seed=5)
    index = sample.name(sample.index([one, two]), "latest")
    debug = sample.name(sample.image(300, seed=9), "debug")
    for image in (index, two, debug):
        sample.sign(image)
    root = sample.write()
    output = tmp_path / "published.json"
    assert _publish(root, f"{registry.host}/a", "--output", str(output)) == 0
    for reference, image in (("v1", index), ("v1-debug", debug), (one.digest, one), (two.digest, two)):
        assert _get(registry.host, f"a/manifests/{reference}")[1] == (root / image.blob).read_bytes()
    stems = [image.digest.replace(":", "-") for image in (index, two, debug)]
    expected = [f"{stem}{end}" for stem in stems for end in ("", ".att", ".sig")]
    assert _tags(registry.host, "a") == sorted([*expected, "v1", "v1-debug"])
    latest, other = json.loads(output.read_text())["images"]
    assert (latest["media_type"], latest["tags"], other["tags"]) == (INDEX, ["v1"], ["v1-debug"])
    assert [len(latest[kind]) for kind in ("signatures", "attestations", "referrers")] == [2, 2, 2]


def test_a_container_image(tmp_path: Path, registry: Registry) -> None:
    """One whose configuration is a container's, which skopeo would look into."""
    sample = SampleLayout(tmp_path / "layout")
    config = sample.layout.add_document(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}},
        "application/vnd.oci.image.config.v1+json",
    )
    layer = sample.blob(100, media_type="application/vnd.oci.image.layer.v1.tar")
    image = sample.name(sample.manifest([layer], config), "latest")
    root = sample.write()
    assert _publish(root, f"{registry.host}/a") == 0
    assert _get(registry.host, f"a/manifests/{image.digest}")[1] == (root / image.blob).read_bytes()


# --- order, interruption and retries ------------------------------------------------------------------------------


def test_tags_come_last(tmp_path: Path, proxy: Proxy) -> None:
    root, image = sample_layout(tmp_path / "layout", signed=True)
    assert _publish(root, f"{proxy.host}/a", tags="v1") == 0
    assert len([request for request in proxy.requests if request.method in ("POST", "PUT")]) == _CHANGES
    assert _publish(root, f"{proxy.host}/a", tags="v2") == 0
    puts = [
        request.path.rpartition("/")[2] for request in proxy.requests if request.method == "PUT" and "manifests" in request.path
    ]
    stem = image.digest.replace(":", "-")
    assert puts[0] == image.digest
    assert _tag_puts(proxy.requests) == [f"{stem}.sig", f"{stem}.att", stem, "v1", "v2"]


@pytest.mark.parametrize("refused", range(_CHANGES))
def test_an_interruption_leaves_no_tag_on_what_is_not_signed(tmp_path: Path, proxy: Proxy, refused: int) -> None:
    """Whichever of the requests that change something fails."""
    root, image = sample_layout(tmp_path / "layout", signed=True)
    count = 0

    def answer(asked: Asked) -> Answer | None:
        nonlocal count
        if asked.method not in ("POST", "PUT"):
            return None
        count += 1
        return Answer.error(403, "DENIED") if count > refused else None

    proxy.answer = answer
    assert _publish(root, f"{proxy.host}/a") == 1
    assert refused < count <= _CHANGES
    tags = _tags(proxy.upstream, "a")
    for tag in tags:
        assert _get(proxy.upstream, f"a/manifests/{tag}")[0] == 200
    assert "v1" not in tags
    proxy.answer = lambda asked: None
    assert _publish(root, f"{proxy.host}/a") == 0
    assert len(_tags(proxy.upstream, "a")) == 4


def test_a_registry_that_dies_in_the_middle(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root, image = sample_layout(tmp_path / "layout", 1000, 32 * _MIB, signed=True)
    large = read_document(root, image)["layers"][1]
    with running_registry(tmp_path / "registry") as registry, running_proxy(registry.host) as proxy:
        small_is_there = threading.Event()

        def answered(asked: Asked, body: bytes) -> bytes:
            if asked.method == "PUT" and "/blobs/uploads/" in asked.path:
                small_is_there.set()
            return body

        def sending(asked: Asked, sent: int) -> None:
            if asked.method == "PATCH" and sent > 8 * _MIB:
                assert small_is_there.wait(30)
                registry.kill()

        proxy.changed, proxy.sending = answered, sending
        assert _publish(root, f"{proxy.host}/a", "--output", str(tmp_path / "published.json")) == 1
        assert f"unikernel: {image.digest} was not pushed to {proxy.host}/a; no tag was set. skopeo: " in capfd.readouterr().err
        assert not (tmp_path / "published.json").exists()
    with running_registry(tmp_path / "registry") as registry:
        assert _tags(registry.host, "a") == []
        assert _get(registry.host, f"a/manifests/{image.digest}")[0] == 404
        first = read_document(root, image)["layers"][0]["digest"]
        assert _get(registry.host, f"a/blobs/{first}")[0] == 200
        assert _get(registry.host, f"a/blobs/{large['digest']}")[0] == 404
        assert _publish(root, f"{registry.host}/a") == 0
        assert _get(registry.host, "a/manifests/v1")[1] == (root / image.blob).read_bytes()
        # The configuration and five blobs of companions may have been sent or not; the first blob was.
        assert [request for request in registry.requests("HEAD", first) if request.status == 200]
        assert len(registry.uploads()) < len(list((root / "blobs/sha256").iterdir()))


@pytest.mark.parametrize("path", ["/blobs/uploads/", "/manifests/", "^/v2/$"])
def test_what_fails_for_a_while_is_tried_again(tmp_path: Path, proxy: Proxy, path: str) -> None:
    root, image = sample_layout(tmp_path / "layout")
    failures = 2

    def answer(asked: Asked) -> Answer | None:
        nonlocal failures
        if failures and re.search(path, asked.path):
            failures -= 1
            return Answer(503, {"Retry-After": "0"})
        return None

    proxy.answer = answer
    assert _publish(root, f"{proxy.host}/a") == 0
    assert failures == 0
    assert _get(proxy.upstream, "a/manifests/v1")[1] == (root / image.blob).read_bytes()


def test_what_keeps_failing(tmp_path: Path, proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    root, _ = sample_layout(tmp_path / "layout")
    proxy.answer = lambda asked: Answer(503, {"Retry-After": "0"}) if asked.method == "PUT" and "v1" in asked.path else None
    assert _publish(root, f"{proxy.host}/a") == 1
    assert _error(capfd) == f"{proxy.host}/a does not take the manifest v1 (HTTP 503)."


# --- refusals -----------------------------------------------------------------------------------------------------


def _error(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that says what is wrong."""
    printed = capfd.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("unikernel: ")]
    assert printed.err.endswith(line + "\n") and not printed.out
    return line[len("unikernel: ") :]


def test_an_immutable_tag(tmp_path: Path, proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    first, image = sample_layout(tmp_path / "first", 10)
    second, other = sample_layout(tmp_path / "second", 20)
    assert _publish(first, f"{proxy.host}/a") == 0
    proxy.answer = lambda asked: (
        Answer.error(400, "TAG_INVALID", "tag is immutable") if asked.method == "PUT" and asked.path.endswith("/v1") else None
    )
    assert _publish(first, f"{proxy.host}/a") == 0
    capfd.readouterr()
    assert _publish(second, f"{proxy.host}/a", tags="v1 v2") == 1
    assert _error(capfd) == (
        f"{proxy.host}/a:v1 is not set to {other.digest}: the registry refuses it (HTTP 400: tag is immutable); it stays {image.digest}. "
        "If tags are immutable there, use a new one; if the account may not set this one, use another."
    )
    assert _tags(proxy.upstream, "a") == ["v1"]


def test_an_account_that_may_not_push(tmp_path: Path, proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    root, image = sample_layout(tmp_path / "layout")
    proxy.answer = lambda asked: Answer.error(403, "DENIED", "requested access is denied") if asked.method == "POST" else None
    assert _publish(root, f"{proxy.host}/a") == 1
    message = _error(capfd)
    assert message.startswith(f"{image.digest} was not pushed to {proxy.host}/a; no tag was set. skopeo: ")
    assert message.endswith("The account may not push there: give it the right to.")
    proxy.answer = lambda asked: Answer.error(403, "DENIED", "no access") if "/manifests/" in asked.path else None
    assert _publish(root, f"{proxy.host}/a") == 1
    assert _error(capfd) == (
        f"{proxy.host}/a does not give the manifest of {image.digest} (HTTP 403: no access). The account may not push there: give it "
        "the right to, or use another."
    )


def test_a_registry_that_changes_manifests(tmp_path: Path, proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    root, image = sample_layout(tmp_path / "layout")
    proxy.changed = lambda asked, body: body + b"\n" if asked.method == "GET" and "/manifests/" in asked.path else body
    assert _publish(root, f"{proxy.host}/a") == 1
    assert _error(capfd).startswith(f"{proxy.host}/a gives other bytes for ")
    assert _tags(proxy.upstream, "a") == []


def test_a_registry_that_stores_under_another_digest(tmp_path: Path, proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    root, image = sample_layout(tmp_path / "layout")
    proxy.answer = (
        lambda asked: Answer.error(404, "MANIFEST_UNKNOWN") if asked.method == "GET" and image.digest in asked.path else None
    )
    assert _publish(root, f"{proxy.host}/a") == 1
    assert f"{proxy.host}/a has taken {image.digest}, but does not give it" in _error(capfd)
    assert _tags(proxy.upstream, "a") == []


def test_what_is_no_registry(tmp_path: Path, proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    root, _ = sample_layout(tmp_path / "layout")
    proxy.answer = lambda asked: Answer(404)
    assert _publish(root, f"{proxy.host}/a") == 1
    assert _error(capfd) == f"{proxy.host}/a cannot be asked for: the host does not answer as a registry does (HTTP 404)."


def test_nothing_listens(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root, _ = sample_layout(tmp_path / "layout")
    with socket.socket() as taken:
        # Bound, but nothing listens.
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        assert _publish(root, f"{host}/a") == 1
    assert _error(capfd) == f"Nothing listens at {host} (connection refused): start the registry or correct its address."
    assert _publish(root, "registry.invalid/a") == 1
    assert re.fullmatch(
        r"The registry registry.invalid is not known \(.*\): correct its name, or this machine's DNS.", _error(capfd)
    )


def test_bad_arguments_send_nothing(tmp_path: Path, registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    root, image = sample_layout(tmp_path / "layout")
    to = f"{registry.host}/a"
    before = registry.requests()
    assert _publish(root, f"{registry.host}/A") == 1
    assert "names no repository" in _error(capfd)
    assert _publish(root, to, tags=".x") == 1
    assert "'.x' is no tag" in _error(capfd)
    assert _publish(root, to, "--skopeo", str(tmp_path / "missing")) == 1
    assert f"skopeo, which sends images, is not at '{tmp_path / 'missing'}'" in _error(capfd)
    (root / image.blob).unlink()
    assert _publish(root, to) == 1
    assert f"The OCI layout {root} is broken: {image.blob}, which latest refers to, is not there." in _error(capfd)
    assert registry.requests() == before


def test_a_result_that_cannot_be_written(tmp_path: Path, registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    root, _ = sample_layout(tmp_path / "layout")
    (tmp_path / "published.json").mkdir()
    assert _publish(root, f"{registry.host}/a", "--output", str(tmp_path / "published.json")) == 1
    assert "All is published, but " in _error(capfd)
    assert not list(tmp_path.glob(".published.json.*"))


# --- credentials --------------------------------------------------------------------------------------------------


def _write_docker_config(directory: Path, document: Mapping[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(document))


def _auth(password: str = _PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"me:{password}".encode()).decode()}


def _write_helper(directory: Path, name: str, username: str, secret: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    helper = directory / f"docker-credential-{name}"
    answer = json.dumps({"Username": username, "Secret": secret})
    helper.write_text(f"#!/bin/sh\nread server\necho \"$1 $server\" >> '{directory}/asked'\necho '{answer}'\n")
    helper.chmod(0o755)


def test_a_registry_that_asks_for_a_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, image = sample_layout(tmp_path / "layout", signed=True)
    docker = tmp_path / "home/.docker"
    with running_registry(tmp_path / "registry", users={"me": _PASSWORD}) as registry:
        to = f"{registry.host}/a"
        assert _publish(root, to) == 1
        assert _error(capfd) == (
            f"{to} asks for credentials (HTTP 401: authentication required). There are none; they are looked for in $REGISTRY_AUTH_FILE, "
            "$DOCKER_CONFIG/config.json and ~/.docker/config.json, with the credential helpers that they name. Log in with "
            f"`docker login {registry.host}`."
        )
        _write_docker_config(docker, {"auths": {registry.host: _auth("wrong-w0rd")}})
        assert _publish(root, to) == 1
        message = _error(capfd)
        assert f"Those from {docker}/config.json ({registry.host}) do not do" in message
        assert "wrong-w0rd" not in message and _auth("wrong-w0rd")["auth"] not in message
        _write_docker_config(docker, {"auths": {registry.host: _auth()}})
        assert _publish(root, to) == 0
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        _write_docker_config(tmp_path / "docker", {"auths": {f"https://{registry.host}/v1/": _auth()}})
        assert _publish(root, f"{registry.host}/b") == 0
        _write_helper(tmp_path / "bin", "test", "me", _PASSWORD)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        documents: list[dict[str, Any]] = [{"credsStore": "test"}, {"credHelpers": {registry.host: "test"}}]
        for number, document in enumerate(documents):
            _write_docker_config(tmp_path / "docker", document)
            assert _publish(root, f"{registry.host}/c{number}") == 0
        assert set((tmp_path / "bin/asked").read_text().splitlines()) == {f"get {registry.host}"}
        printed = capfd.readouterr()
        assert _PASSWORD not in printed.out + printed.err
    with running_registry(tmp_path / "registry") as registry:
        for name in ("a", "b", "c0", "c1"):
            assert _get(registry.host, f"{name}/manifests/v1")[1] == (root / image.blob).read_bytes()


class _Tokens:
    """What a registry with tokens does, before one without."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.asked: list[dict[str, list[str]]] = []
        self.authorizations: list[str] = []

    def answer(self, asked: Asked) -> Answer | None:
        path, _, query = asked.path.partition("?")
        if path == "/token":
            self.authorizations.append(asked.headers.get("Authorization", ""))
            self.asked.append(urllib.parse.parse_qs(query))
            return Answer(
                200, {"Content-Type": "application/json"}, json.dumps({"access_token": "t0ken", "token": "t0ken"}).encode()
            )
        if asked.headers.get("Authorization") == "Bearer t0ken":
            return None
        challenge = f'Bearer realm="http://{self.proxy.host}/token",service="test",scope="repository:a:pull,push"'
        return Answer(401, {"WWW-Authenticate": challenge})


@pytest.mark.parametrize(
    "entry",
    [None, _auth(), {"auth": base64.b64encode(b"0:").decode(), "identitytoken": "r3fresh"}],
    ids=["none", "basic", "identity"],
)
def test_a_registry_with_tokens(tmp_path: Path, proxy: Proxy, entry: dict[str, str] | None) -> None:
    root, image = sample_layout(tmp_path / "layout", signed=True)
    tokens = _Tokens(proxy)
    proxy.answer = tokens.answer
    if entry:
        _write_docker_config(tmp_path / "home/.docker", {"auths": {proxy.host: entry}})
    assert _publish(root, f"{proxy.host}/a") == 0
    assert _get(proxy.upstream, "a/manifests/v1")[1] == (root / image.blob).read_bytes()
    methods = {request.method for request in proxy.requests if request.path == "/token"}
    basic = "Basic " + _auth()["auth"]
    if entry and "identitytoken" in entry:
        assert methods == {"POST"}
    else:
        assert methods == {"GET"} and set(tokens.authorizations) == {basic if entry else ""}
        assert tokens.asked[0] == {"service": ["test"], "scope": ["repository:a:pull,push"]}


def test_credentials_go_nowhere_without_tls(tmp_path: Path, proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    root, _ = sample_layout(tmp_path / "layout")
    proxy.answer = lambda asked: Answer(401, {"WWW-Authenticate": 'Bearer realm="ftp://example.com/token"'})
    assert _publish(root, f"{proxy.host}/a") == 1
    assert _error(capfd) == (
        f"{proxy.host} sends logins to 'ftp://example.com/token', which is no https address: nothing is sent there."
    )


# --- TLS ----------------------------------------------------------------------------------------------------------


def _write_certificate(directory: Path, address: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime(2020, 1, 1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now).not_valid_after(now.replace(year=2120))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = builder.add_extension(names, critical=False).add_extension(x509.BasicConstraints(True, None), critical=True)
    certificate, private = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


def test_tls(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    root, image = sample_layout(tmp_path / "layout", signed=True)
    # An address that reaches this machine and is not localhost.
    certificate, key = _write_certificate(tmp_path, "0.0.0.0")
    with running_registry(tmp_path / "registry", certificate=certificate, key=key) as registry:
        host = registry.host.replace("127.0.0.1", "0.0.0.0")
        assert _publish(root, f"{host}/a") == 1
        message = _error(capfd)
        assert (
            message.startswith(f"The TLS certificate of {host} is not trusted (")
            and f"/etc/docker/certs.d/{host}/ca.crt" in message
        )
        assert _publish(root, f"{registry.host}/a") == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert _publish(root, f"{host}/b") == 0
        monkeypatch.delenv("SSL_CERT_FILE")
        authority = tmp_path / "home/.config/containers/certs.d" / host / "ca.crt"
        authority.parent.mkdir(parents=True)
        authority.write_bytes(certificate.read_bytes())
        assert _publish(root, f"{host}/c") == 0
    with running_registry(tmp_path / "registry") as registry:
        for name in "abc":
            assert _get(registry.host, f"{name}/manifests/v1")[1] == (root / image.blob).read_bytes()


def test_plain_http_is_spoken_with_this_machine_only(tmp_path: Path, registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    root, _ = sample_layout(tmp_path / "layout")
    host = registry.host.replace("127.0.0.1", "0.0.0.0")
    assert _publish(root, f"{host}/a") == 1
    assert f"{host} does not speak TLS" in _error(capfd)
    assert registry.requests() == []
    assert _publish(root, f"{registry.host.replace('127.0.0.1', 'localhost')}/a") == 0


# --- what is signed -----------------------------------------------------------------------------------------------


def _make_key(directory: Path, name: str) -> Path:
    """Returns the public key's path; the private one is beside it (.key)."""
    printed = run_cosign("generate-key-pair", f"--output-key-prefix={directory / name}", COSIGN_PASSWORD="")
    assert printed.returncode == 0, printed.stdout
    return directory / f"{name}.pub"


def _cosign(command: str, key: Path, reference: str, *options: str) -> None:
    options = (f"--key={key.with_suffix('.key')}", "--tlog-upload=false", "--yes", *options)
    printed = run_cosign(command, *options, reference, COSIGN_PASSWORD="")
    assert printed.returncode == 0, printed.stdout


def _verified(key: Path, reference: str) -> bool:
    return run_cosign("verify", f"--key={key}", "--insecure-ignore-tlog", reference).returncode == 0


def _attested(key: Path, reference: str, *options: str) -> bool:
    options = (f"--key={key}", "--type=custom", "--insecure-ignore-tlog", *options)
    return run_cosign("verify-attestation", *options, reference).returncode == 0


def _signed_layout(tmp_path: Path, registry: Registry, key: Path, image: tuple[Path, Descriptor]) -> Path:
    """The layout `image` with what cosign signs of it in a repository, as the packaging would have it."""
    root, descriptor = image
    signing = f"{registry.host}/signing"
    assert _publish(root, signing) == 0
    predicate = tmp_path / "predicate.json"
    predicate.write_text(json.dumps({"key": key.name}))
    reference = f"{signing}@{descriptor.digest}"
    _cosign("sign", key, reference)
    for options in ((), ("--new-bundle-format",)):
        _cosign("attest", key, reference, "--type=custom", f"--predicate={predicate}", *options)
    layout = Layout(tmp_path / f"signed-{key.stem}")
    for blob in (root / "blobs/sha256").iterdir():
        (layout.root / "blobs/sha256" / blob.name).write_bytes(blob.read_bytes())
    stem = descriptor.digest.replace(":", "-")
    entries = [{**descriptor.to_document(), "annotations": {REFERENCE: "latest"}}]
    for tag in (f"{stem}.sig", f"{stem}.att", stem):
        content = _get(registry.host, f"signing/manifests/{tag}")[1]
        added = layout.add_bytes(content, json.loads(content)["mediaType"])
        entries.append({**added.to_document(), "annotations": {REFERENCE: tag}})
        _add_blobs(layout, registry, json.loads(content))
    layout.write_index(entries)
    return layout.root


def _add_blobs(layout: Layout, registry: Registry, document: Mapping[str, Any]) -> None:
    for child in document.get("manifests", ()):
        content = _get(registry.host, f"signing/manifests/{child['digest']}")[1]
        layout.add_bytes(content, child["mediaType"])
        _add_blobs(layout, registry, json.loads(content))
    for blob in (*document.get("layers", ()), *filter(None, [document.get("config")])):
        layout.add_bytes(_get(registry.host, f"signing/blobs/{blob['digest']}")[1], blob["mediaType"])


def test_signatures_of_others_stay(tmp_path: Path, registry: Registry) -> None:
    ours, others, nobodys = (_make_key(tmp_path, name) for name in ("ours", "others", "nobodys"))
    image = sample_layout(tmp_path / "layout", 1000)
    signed = _signed_layout(tmp_path, registry, ours, image)
    # What others have signed is in the repository already.
    to = f"{registry.host}/published"
    reference = f"{to}@{image[1].digest}"
    assert _publish(image[0], to, tags="unsigned") == 0
    predicate = tmp_path / "other.json"
    predicate.write_text("{}")
    _cosign("sign", others, reference)
    for options in ((), ("--new-bundle-format",)):
        _cosign("attest", others, reference, "--type=custom", f"--predicate={predicate}", *options)
    with trusted_root() as root:
        new_bundle = ("--new-bundle-format", f"--trusted-root={root}")
        assert not _verified(ours, reference) and not _attested(ours, reference) and not _attested(ours, reference, *new_bundle)
        output = tmp_path / "published.json"
        for _ in range(2):
            assert _publish(signed, to, "--output", str(output)) == 0
            for key in (ours, others):
                assert _verified(key, reference)
                assert _attested(key, reference)
                assert _attested(key, reference, *new_bundle)
                assert _verified(key, f"{to}:v1")
            assert not _verified(nobodys, reference) and not _attested(nobodys, reference)
            assert not _attested(nobodys, reference, *new_bundle)
        # cosign goes on with what was merged.
        _cosign("sign", nobodys, reference)
        assert all(_verified(key, reference) for key in (ours, others, nobodys))
    stem = image[1].digest.replace(":", "-")
    for tag, kind, count in ((f"{stem}.sig", "layers", 3), (f"{stem}.att", "layers", 2), (stem, "manifests", 2)):
        assert len(_document(registry.host, f"published/manifests/{tag}")[kind]) == count
    (published,) = json.loads(output.read_text())["images"]
    assert [len(published[kind]) for kind in ("signatures", "attestations", "referrers")] == [1, 1, 1]


def test_what_was_packaged_is_what_is_there_if_nobody_else_signed(tmp_path: Path, registry: Registry) -> None:
    root, image = sample_layout(tmp_path / "layout", signed=True)
    assert _publish(root, f"{registry.host}/a") == 0
    for entry in json.loads((root / "index.json").read_bytes())["manifests"][1:]:
        tag = entry["annotations"][REFERENCE]
        blob = root / "blobs" / entry["digest"].replace(":", "/")
        assert _get(registry.host, f"a/manifests/{tag}")[1] == blob.read_bytes()


def test_a_registry_with_the_referrers_api(tmp_path: Path, proxy: Proxy) -> None:
    root, image = sample_layout(tmp_path / "layout", signed=True)
    empty = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    proxy.answer = lambda asked: Answer(200, {"Content-Type": INDEX}, empty) if "/referrers/" in asked.path else None
    assert _publish(root, f"{proxy.host}/a") == 0
    stem = image.digest.replace(":", "-")
    assert _tags(proxy.upstream, "a") == [f"{stem}.att", f"{stem}.sig", "v1"]
    (referrer,) = read_document(root, _companion(root, stem))["manifests"]
    assert _get(proxy.upstream, f"a/manifests/{referrer['digest']}")[0] == 200


def _companion(root: Path, name: str) -> Descriptor:
    for entry in json.loads((root / "index.json").read_bytes())["manifests"]:
        if entry["annotations"][REFERENCE] == name:
            return Descriptor(entry["mediaType"], entry["digest"], entry["size"])
    raise AssertionError(name)


def test_what_is_no_signature_is_left_alone(tmp_path: Path, registry: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    root, image = sample_layout(tmp_path / "layout", 10, signed=True)
    tag = f"{image.digest.replace(':', '-')}.sig"
    sample = SampleLayout(tmp_path / "other")
    index = sample.name(sample.index([]), "latest")
    content = (sample.write() / index.blob).read_bytes()
    request = urllib.request.Request(f"http://{registry.host}/v2/a/manifests/{tag}", content, {"Content-Type": INDEX}, method="PUT")
    urllib.request.urlopen(request).close()
    assert _publish(root, f"{registry.host}/a") == 1
    assert _error(capfd) == (
        f"{registry.host}/a:{tag} is not what cosign puts there ({INDEX}), and is left as it is: delete that tag."
    )
    assert _tags(registry.host, "a") == [tag]


def test_two_that_publish_at_once_keep_each_others_signatures(tmp_path: Path, proxy: Proxy) -> None:
    """Another one puts its signatures between what is read and what is written."""
    sample = SampleLayout(tmp_path / "one")
    image = sample.name(sample.image(10), "latest")
    sample.sign(image, "b25l")
    one = sample.write()
    other = SampleLayout(tmp_path / "two")
    other.name(other.image(10), "latest")
    other.sign(image, "dHdv")
    two = other.write()
    tag = f"{image.digest.replace(':', '-')}.sig"
    seen = threading.Event()

    def changed(asked: Asked, body: bytes) -> bytes:
        if asked.method == "PUT" and asked.path.endswith(tag) and not seen.is_set():
            seen.set()
            # As if it had come first and been written over.
            assert _publish(two, f"{proxy.upstream}/a", tags="v2") == 0
            content = (two / _companion(two, tag).blob).read_bytes()
            address = f"http://{proxy.upstream}/v2/a/manifests/{tag}"
            urllib.request.urlopen(urllib.request.Request(address, content, {"Content-Type": MANIFEST}, method="PUT")).close()
        return body

    proxy.changed = changed
    assert _publish(one, f"{proxy.host}/a") == 0
    layers = _document(proxy.upstream, f"a/manifests/{tag}")["layers"]
    assert {layer["annotations"]["dev.cosignproject.cosign/signature"] for layer in layers} == {"b25l", "dHdv"}
