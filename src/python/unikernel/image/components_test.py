from __future__ import annotations

from pathlib import Path

from unikernel.image.components import layer_components, layer_inputs, linux_components, listed_components
from unikernel.rootfs.layer import IndexEntry, LayerIndex
from unikernel.sbom.component import Component, ComponentKind
from unikernel.signing.provenance import Artifact

_DISTRIBUTION = Component(ComponentKind.LIBRARY, "MarkupSafe", "3.0.4", "pkg:pypi/markupsafe@3.0.4", ("BSD-3-Clause",), "11")
_PROGRAM = Component(ComponentKind.APPLICATION, "service.tar", sha256="22")
_INTERPRETER = Component(ComponentKind.APPLICATION, "python", "3.9.18", "pkg:generic/python@3.9.18", ("Python-2.0",), "33")


def _entry(path: str, sha256: str | None) -> IndexEntry:
    return IndexEntry(path, 0o100644, sha256=sha256)


_INDEXES = [
    LayerIndex(
        "application",
        [_entry("/srv", None), _entry("/srv/program", "44"), _entry("/srv/libown.so.1", "55")],
        provides={"libown.so.1": "/srv/libown.so.1", "libown.so": "/srv/libown.so.1"},
        components=[_PROGRAM],
    ),
    LayerIndex("distributions", [_entry("/usr/lib/x.py", "66")], components=[_DISTRIBUTION]),
    LayerIndex("python", [], components=[_INTERPRETER]),
    LayerIndex("files", [_entry("/etc", None), _entry("/etc/settings", "77")]),
]


def test_layers_list_what_they_say_and_what_an_application_and_extra_files_bring() -> None:
    assert layer_components(_INDEXES) == [
        _PROGRAM,
        Component(ComponentKind.LIBRARY, "libown.so.1", sha256="55", path="/srv/libown.so.1"),
        _DISTRIBUTION,
        _INTERPRETER,
        Component(ComponentKind.FILE, "settings", sha256="77", path="/etc/settings"),
    ]


def test_an_sbom_does_not_change_with_the_code_of_the_application() -> None:
    assert [component.sha256 for component in listed_components(_INDEXES)] == ["", "55", "11", "33", "77"]
    assert [component.name for component in listed_components(_INDEXES)] == [item.name for item in layer_components(_INDEXES)]


def test_the_same_are_inputs_by_what_they_are_to_an_image() -> None:
    assert layer_inputs(_INDEXES) == [
        Artifact("app service.tar", "22"),
        Artifact("library /srv/libown.so.1", "55"),
        Artifact("distribution MarkupSafe 3.0.4", "11", "pkg:pypi/markupsafe@3.0.4"),
        Artifact("interpreter python 3.9.18", "33", "pkg:generic/python@3.9.18"),
        Artifact("file /etc/settings", "77"),
    ]


def test_an_index_keeps_its_components(tmp_path: Path) -> None:
    for index in _INDEXES:
        index.write(tmp_path / "index.json")
        assert LayerIndex.read(tmp_path / "index.json") == index


def test_the_kernel_and_pid_1() -> None:
    kernel, init = linux_components("6.1.192", "aa", "0.1.0", "bb", "/init")
    assert (kernel.kind, kernel.purl, kernel.sha256) == (ComponentKind.OPERATING_SYSTEM, "pkg:generic/linux@6.1.192", "aa")
    assert (init.version, init.sha256, init.path) == ("0.1.0", "bb", "/init")
