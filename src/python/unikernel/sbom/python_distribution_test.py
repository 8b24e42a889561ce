from __future__ import annotations

import hashlib

import pytest

from unikernel.sbom.component import Component, ComponentKind
from unikernel.sbom.python_distribution import distribution_component, files_digest


def test_a_distribution_says_what_it_is() -> None:
    metadata = b"Metadata-Version: 2.4\nName: Markup_Safe\nVersion: 3.0.4\nLicense-Expression: BSD-3-Clause\n\nText.\nName: x\n"
    component = distribution_component(metadata, {"/a": "11"})
    assert component == Component(
        ComponentKind.LIBRARY,
        "Markup_Safe",
        "3.0.4",
        "pkg:pypi/markup-safe@3.0.4",
        ("BSD-3-Clause",),
        hashlib.sha256(b"11  /a\n").hexdigest(),
    )
    assert Component.of_document(component.to_document()) == component


@pytest.mark.parametrize(
    ("fields", "licenses"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: old", ("MIT OR Apache-2.0",)),
        ("License: MIT", ("MIT",)),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License", ("MIT License",)),
        ("License: " + "text " * 100 + "\nClassifier: License :: OSI Approved :: BSD License", ("BSD License",)),
        (
            "Classifier: License :: OSI Approved\nClassifier: License :: OSI Approved :: MIT License\n"
            "Classifier: License :: OSI Approved :: Apache Software License\nClassifier: Topic :: Text",
            ("Apache Software License", "MIT License"),
        ),
        ("Summary: none", ()),
        ("License:", ()),
    ],
)
def test_its_licence_is_taken_from_where_it_is(fields: str, licenses: tuple[str, ...]) -> None:
    component = distribution_component(f"Metadata-Version: 2.1\nName: a\nVersion: 1\n{fields}\n".encode(), {})
    assert component is not None and component.licenses == licenses


def test_metadata_that_says_nothing() -> None:
    assert distribution_component(b"", {}) is None
    assert distribution_component(b"\xff\xfe", {}) is None
    component = distribution_component(b"Name: a\n", {})
    assert component is not None and component.purl == "pkg:pypi/a"


def test_the_digest_of_files_is_that_of_sha256sums_output() -> None:
    assert files_digest({"/b": "22", "/a": "11"}) == hashlib.sha256(b"11  /a\n22  /b\n").hexdigest()
