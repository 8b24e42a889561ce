"""What Pants tells about the plugin: `help`, `peek`, and one line for arguments that make no sense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pants_project import DOCKER_BACKEND, PYTHON_BACKEND, PantsProject, plugin_configuration
from pants_unikernel import register
from pants_unikernel.cc import register as cc_register

TARGET_TYPES = sorted({target_type.alias for target_type in (*register.target_types(), *cc_register.target_types())})
GOALS = ["unikernel-readiness", "unikernel-verify"]
SUBSYSTEMS = ["unikernel-images", "unikernel-linux", "unikernel-run", "unikernel-signing", "unikernel-tests", "unikernel-toolkit"]
# Inference without an interpreter: there is no Python code here.
_RUST_PARSER = "\n[python-infer]\nuse_rust_parser = true\n"
BUILD = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
file(name="file", source="main.c")
unikernel_image(
    name="image",
    app=":program",
    files=[(":file", "/etc/main.c", "0644")],
    env={"KEY": "value"},
    formats=["elf", "container", "oci"],
    gateway="10.0.2.2",
    ip_address="10.0.2.15/24",
    labels={"label": "value"},
    library_os=parametrize("linux", "nanos"),
    network="static",
    ports=["8080:80"],
)
unikernel_test(name="test", image=":image@library_os=linux", http=[{"path": "/", "status": 200}], tcp=[{"port": 8080}])
unikernel_python_tests(name="python-tests", image=":image@library_os=linux", tests=[":none"])
unikernel_deployment(name="deployment", image=":image@library_os=linux", deploy_as="unikernel")
library_os(name="mine", inputs={"kernel": ":file"}, sha256={"kernel": "%s"})
python_tests(name="none", sources=["*_test.py"])
""" % (
    "0" * 64
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    root = tmp_path_factory.mktemp("help") / "repository"
    with PantsProject(root, configuration=plugin_configuration(DOCKER_BACKEND, PYTHON_BACKEND, extra=_RUST_PARSER)) as project:
        project.write("app/BUILD", BUILD)
        project.write("app/main.c", "int main(void) { return 0; }\n")
        project.write("app/main_test.py", "")
        yield project


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def _json(printed: str, opening: str) -> Any:
    """Return the document that Pants printed after its log."""
    start = printed.index(f"\n{opening}\n") if not printed.startswith(opening) else 0
    return json.loads(printed[start:], object_pairs_hook=_unique)


def _help(project: PantsProject, *arguments: str) -> str:
    printed = project.succeed(*arguments)
    assert "Traceback (most recent call last)" not in printed and "[ERROR]" not in printed, printed
    return printed


def test_help_lists_what_is_ours(project: PantsProject) -> None:
    assert "Usage" in _help(project, "help")
    printed = _help(project, "help", "targets", "goals", "subsystems", "api-types", "backends", "symbols", "tools", "global")
    assert not [name for name in (*TARGET_TYPES, *GOALS, *SUBSYSTEMS) if name not in printed]


def test_help_of_each_target_goal_and_subsystem(project: PantsProject) -> None:
    printed = _help(project, "help", *TARGET_TYPES)
    assert not [name for name in TARGET_TYPES if f"`{name}` target" not in printed]
    assert "ip_address" in printed
    # The words after one goal would be goals of this run; things that `help` shows are not.
    printed = _help(project, "help-advanced", *GOALS, *SUBSYSTEMS)
    assert not [name for name in (*GOALS, *SUBSYSTEMS) if name not in printed]


def test_help_all_is_a_document_with_all_that_is_ours(project: PantsProject) -> None:
    document = _json(_help(project, "help-all"), "{")
    assert set(TARGET_TYPES) <= set(document["name_to_target_type_info"])
    assert set(GOALS) <= set(document["name_to_goal_info"])
    assert {*GOALS, *SUBSYSTEMS} <= set(document["scope_to_help_info"])
    fields = {field["alias"]: field for field in document["name_to_target_type_info"]["unikernel_image"]["fields"]}
    assert (fields["ip_address"]["type_hint"], fields["cpus"]["type_hint"]) == ("str | None", "int | None")
    assert "address" not in fields


def test_peek_shows_each_target_with_its_address(project: PantsProject) -> None:
    document = _json(_help(project, "peek", "::"), "[")
    by_address = {target["address"]: target for target in document}
    assert len(by_address) == len(document)
    image = by_address["app:image@library_os=linux"]
    assert (image["target_type"], image["ip_address"]) == ("unikernel_image", "10.0.2.15/24")
    assert {target["target_type"] for target in document} >= {name for name in TARGET_TYPES if not name.startswith("cc_source")}


def test_old_name_of_a_field_is_an_unrecognized_field(project: PantsProject) -> None:
    file = project.write("old/BUILD", 'unikernel_image(name="image", app="app:program", network="static", address="10.0.2.15/24")')
    try:
        project.fail("list", "old:", expected=["Unrecognized field `address=10.0.2.15/24`", "ip_address"])
    finally:
        file.unlink()


@pytest.mark.parametrize(
    "arguments, line",
    [
        ([], "Usage: pants unikernel-verify [OPTION...] TARGET... "),
        (["::"], "unikernel-verify: none of the targets is a packaged unikernel image"),
        (["nothing::"], "unikernel-verify: Unmatched glob"),
        (["nothing:here"], "unikernel-verify: The file or directory 'nothing' does not exist"),
        (["app:nothing"], "unikernel-verify: "),
        (["nothing.c"], "unikernel-verify: Unmatched glob"),
        (["app:program"], "unikernel-verify: none of the targets is a packaged unikernel image"),
        (["app/main.c"], "unikernel-verify: none of the targets is a packaged unikernel image"),
        (["app:image"], "unikernel-verify: app:image"),
    ],
)
def test_verify_is_one_line_for_arguments_that_make_no_sense(project: PantsProject, arguments: list[str], line: str) -> None:
    printed = project.fail("--level=error", "unikernel-verify", *arguments, expected=[line])
    lines = [text for text in printed.splitlines() if text and not text.endswith(": not packaged, so not verified")]
    assert len(lines) == 1 and lines[0].startswith(line), printed
    assert "traceback" not in printed


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--unikernel-verify-json=nope"], 'Got "nope". Expected "True" or "False"'),
        (["--unikernel-verify-nothing"], "Unknown flag --nothing on unikernel-verify scope"),
    ],
)
def test_option_that_makes_no_sense_is_named(project: PantsProject, options: list[str], expected: str) -> None:
    printed = project.fail(*options, "unikernel-verify", "::", expected=[expected])
    assert "traceback" not in printed
