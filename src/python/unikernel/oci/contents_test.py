from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest

from unikernel.errors import UnikernelError
from unikernel.oci.contents import LayoutContents
from unikernel.oci.layout import INDEX, MANIFEST, Descriptor
from unikernel.testing.layouts import SampleLayout, read_document, sample_layout


def test_a_layout_and_what_is_signed_of_its_images(tmp_path: Path) -> None:
    sample = SampleLayout(tmp_path / "layout")
    one, two = sample.image(100), sample.image(50, 60, seed=7)
    index = sample.name(sample.index([one, two, one]), "latest")
    other = sample.name(sample.image(10, seed=9), "debug")
    for image in (index, two, other):
        sample.sign(image)
    contents = LayoutContents(sample.write())
    latest, debug = contents.images
    assert (latest.name, latest.descriptor.digest, debug.descriptor) == ("latest", index.digest, contents.images[1].manifests[-1])
    assert [manifest.digest for manifest in latest.manifests] == [one.digest, two.digest, index.digest]
    stems = [image.digest.replace(":", "-") for image in (two, index)]
    assert [companion.tag for companion in latest.companions] == [stem + end for stem in stems for end in (".sig", ".att", "")]
    assert {companion.subject.digest for companion in debug.companions} == {other.digest}
    config = read_document(tmp_path / "layout", one)["config"]["size"]
    # The configuration is shared.
    assert latest.size == index.size + one.size + two.size + config + 100 + 50 + 60


def test_an_unsigned_layout(tmp_path: Path) -> None:
    root, image = sample_layout(tmp_path / "layout", 0)
    (latest,) = LayoutContents(root).images
    assert latest.descriptor.digest == image.digest and not latest.companions


Mutation = Callable[[Path, Descriptor], Any]


def _change(root: Path, change: Callable[[dict[str, Any]], Any], name: str = "index.json") -> None:
    document = json.loads((root / name).read_bytes())
    change(document)
    (root / name).write_text(json.dumps(document))


def _entry(index: int, **values: Any) -> Mutation:
    return lambda root, image: _change(root, lambda document: document["manifests"][index].update(values))


def _blob(root: Path, image: Descriptor) -> Path:
    digest: str = read_document(root, image)["layers"][0]["digest"]
    return root / "blobs" / digest.replace(":", "/")


def _flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))


def _drop_entry(index: int) -> Mutation:
    return lambda root, image: _change(root, lambda document: document["manifests"].pop(index))


@pytest.mark.parametrize(
    ("mutation", "problem"),
    [
        (lambda root, image: (root / "oci-layout").unlink(), "it has no oci-layout"),
        (lambda root, image: (root / "oci-layout").write_text("{}"), "version None"),
        (lambda root, image: (root / "oci-layout").write_text("x"), "oci-layout is not JSON"),
        (lambda root, image: (root / "index.json").unlink(), "it has no index.json"),
        (lambda root, image: (root / "index.json").write_text("[]"), "index.json is no JSON object"),
        (lambda root, image: (root / "index.json").write_text("[" * 100000), "index.json is not JSON"),
        (lambda root, image: (root / "index.json").write_bytes(b"\xff"), "index.json is not JSON"),
        (lambda root, image: _change(root, lambda document: document.clear()), "index.json is no OCI index"),
        (lambda root, image: _change(root, lambda document: document.update(manifests={})), "index.json is no OCI index"),
        (lambda root, image: _change(root, lambda document: document["manifests"].append(7)), "a descriptor without mediaType"),
        (lambda root, image: _change(root, lambda document: document["manifests"].clear()), "names no image 'latest'"),
        (_entry(0, digest="sha256:0"), "'sha256:0' for a digest"),
        (_entry(0, digest="sha256:../../../../etc/passwd"), "for a digest"),
        (_entry(0, digest="sha512:" + "0" * 128), "for a digest"),
        (_entry(0, digest="sha256:" + "0" * 64), "blobs/sha256/0{64}, which latest refers to, is not there"),
        (_entry(0, size=1), r"has \d+ bytes, but latest gives 1"),
        (_entry(0, size=-1), "wrong media type, size"),
        (_entry(0, size=True), "wrong media type, size"),
        (_entry(0, size=1 << 30), "more than 4194304 bytes"),
        (_entry(0, mediaType=INDEX), "is no application/vnd.oci.image.index"),
        (_entry(0, mediaType="application/json"), "not as an OCI manifest or index"),
        (_entry(0, mediaType=7), "wrong media type, size"),
        (_entry(0, annotations={}), "has no name"),
        (_entry(0, annotations=[7]), "annotations"),
        (_entry(0, annotations={"org.opencontainers.image.ref.name": "a b"}), "a name that cannot be a tag"),
        (_entry(0, annotations={"org.opencontainers.image.ref.name": "other"}), "names no image 'latest'"),
        (_entry(1, annotations={"org.opencontainers.image.ref.name": "latest"}), "the name 'latest' twice"),
        (_entry(1, annotations={"org.opencontainers.image.ref.name": f"sha256-{'0' * 64}.sig"}), "which is no image of it"),
        (_entry(1, annotations={"org.opencontainers.image.ref.name": f"sha256-{'0' * 64}.sbom"}), "which is no image of it"),
        (_entry(1, mediaType=INDEX), "sig is application/vnd.oci.image.index"),
        (_entry(3, mediaType=MANIFEST), "manifest.v1.json, not application/vnd.oci.image.index"),
        (_drop_entry(1), "nothing refers to blobs/sha256/"),
        (_drop_entry(3), "nothing refers to blobs/sha256/"),
        (lambda root, image: _blob(root, image).unlink(), "which sha256:[0-9a-f]{64} refers to, is not there"),
        (lambda root, image: _flip(_blob(root, image)), "has the digest sha256:"),
        (lambda root, image: _blob(root, image).write_bytes(b""), "has 0 bytes, but sha256:"),
        (lambda root, image: (root / image.blob).unlink(), "is not there"),
        (lambda root, image: _flip(root / image.blob), "has the digest"),
        (lambda root, image: (root / "blobs/sha256" / ("0" * 64)).write_bytes(b""), "nothing refers to blobs/sha256/0{64}"),
    ],
)
def test_a_broken_layout(tmp_path: Path, mutation: Mutation, problem: str) -> None:
    root, image = sample_layout(tmp_path / "layout", 1000, signed=True)
    LayoutContents(root)
    mutation(root, image)
    with pytest.raises(UnikernelError, match=problem) as raised:
        LayoutContents(root)
    assert str(raised.value).startswith(f"The OCI layout {root} is broken: ")


def test_each_blob_counts(tmp_path: Path) -> None:
    root, _ = sample_layout(tmp_path / "layout", 1000, signed=True)
    blobs = sorted((root / "blobs/sha256").iterdir())
    assert len(blobs) > 8
    for blob in blobs:
        content = blob.read_bytes()
        for changed in (None, content[:-1], content[:-1] + bytes((content[-1] ^ 1,))):
            if changed is None:
                blob.unlink()
            else:
                blob.write_bytes(changed)
            with pytest.raises(UnikernelError, match=blob.name):
                LayoutContents(root)
        blob.write_bytes(content)
    LayoutContents(root)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"{}", "is no application/vnd.oci.image.manifest"),
        (b"[]", "is no JSON object"),
        (b"\0", "is not JSON"),
        (b'{"schemaVersion":1,"config":{},"layers":[]}', "is no application/vnd.oci.image.manifest"),
        (b'{"schemaVersion":2,"layers":[]}', "lacks config or layers"),
        (b'{"schemaVersion":2,"config":{},"layers":{}}', "lacks config or layers"),
        (b'{"schemaVersion":2,"config":{},"layers":[]}', "a descriptor without mediaType"),
        (b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{},"layers":[]}', "is no application"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, document: bytes, problem: str) -> None:
    sample = SampleLayout(tmp_path / "layout")
    sample.name(sample.layout.add_bytes(document, MANIFEST), "latest")
    with pytest.raises(UnikernelError, match=problem):
        LayoutContents(sample.write())


def test_referrers_are_about_the_image(tmp_path: Path) -> None:
    sample = SampleLayout(tmp_path / "layout")
    image, other = sample.name(sample.image(10), "latest"), sample.name(sample.image(11), "debug")
    referrers = sample.index([sample.referrer(other, b"{}")])
    sample.name(referrers, image.digest.replace(":", "-"))
    with pytest.raises(UnikernelError, match=f"whose subject is not {image.digest}"):
        LayoutContents(sample.write())


def test_an_image_is_about_nothing_that_is_not_there(tmp_path: Path) -> None:
    sample = SampleLayout(tmp_path / "layout")
    missing = Descriptor(MANIFEST, "sha256:" + "0" * 64, 7)
    sample.name(sample.referrer(missing, b"{}"), "latest")
    with pytest.raises(UnikernelError, match="is about sha256:0{64}, which is no image of it"):
        LayoutContents(sample.write())


def test_a_subject_is_as_large_as_it_says(tmp_path: Path) -> None:
    sample = SampleLayout(tmp_path / "layout")
    image = sample.name(sample.image(10), "latest")
    sample.name(sample.referrer(Descriptor(MANIFEST, image.digest, image.size + 1), b"{}"), "debug")
    with pytest.raises(UnikernelError, match="gives another size or media type"):
        LayoutContents(sample.write())


def test_indexes_that_refer_to_each_other_many_times(tmp_path: Path) -> None:
    sample = SampleLayout(tmp_path / "layout")
    descriptor = sample.image(10)
    for _ in range(40):
        descriptor = sample.index([descriptor, descriptor])
    sample.name(descriptor, "latest")
    assert len(LayoutContents(sample.write()).images[0].manifests) == 41


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(UnikernelError, match="is no directory: name the OCI layout"):
        LayoutContents(tmp_path / "missing")
