from __future__ import annotations

import hashlib

import pytest

from unikernel.sbom.component import Component, ComponentKind, files_digest
from unikernel.sbom.python_distribution import distribution_component, installed_distribution


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


def test_how_it_was_installed_does_not_matter() -> None:
    def component(**others: str) -> Component | None:
        return distribution_component(b"Name: a\nVersion: 1\n", {"a/b.py": "11", **others})

    assert component() == component(**{"a-1.dist-info/INSTALLER": "22", "a-1.dist-info/RECORD": "33"})
    assert component() != component(**{"a/INSTALLER": "22"})


def test_an_installed_distribution_has_the_same_digest_wherever_it_is() -> None:
    component = installed_distribution("packaging")
    assert component.purl.startswith("pkg:pypi/packaging@") and component.version
    assert len(component.sha256) == 64 and component == installed_distribution("packaging")
