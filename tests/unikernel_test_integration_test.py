"""`pants test` boots images and holds them against what is expected of them: results, reports, errors, and what is in the cache."""

from __future__ import annotations

import random
import re
import textwrap
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import pytest

from pants_project import PantsProject
from sample_services import make_services_project

_NEW = uuid.uuid4().hex
# What Pants prints of a test: "✓ bad:console failed in 1.00s (cached locally)."
_SUMMARY = re.compile(r"^\S+ (\S+) (succeeded|failed)(?: in [0-9.]+s)?(?: \((.*)\))?\.$", re.MULTILINE)
_NOT_RUN = ("memoized", "cached locally")

# Each is as the image does not do it; what has to be said of it.
_FAILING = {
    "status": ("exit_status=3", "expected the status 3, and it ended with status 0"),
    "console": ('console=["^argument 9"]', "expected a line that matches '^argument 9', and there is none"),
    "console-not": ('console_not=["^argument 0"]', "expected no line that matches '^argument 0', and there is 'argument 0: "),
}
_FAILING_SERVICE = {
    "http-status": ('http=[{"status": 404}]', "expected the status 404, and it is 200 OK"),
    "http-body": (
        'http=[{"body": "Goodbye"}]',
        "expected a body that matches 'Goodbye', and its body is 'Hello from a unikernel at /",
    ),
    "http-header": ('http=[{"headers": {"Content-Type": "json"}}]', "expected the header Content-Type to match 'json'"),
    "tcp": ('tcp=[{"send": "GET /\\r\\n\\r\\n", "receive": "^PONG"}]', "expected '^PONG', and what came is 'HTTP/1.1 200 OK"),
    "time": ("exit_status=0, timeout=10", "expected the application to end with status 0, and it ran on for 10 seconds"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PantsProject]:
    with make_services_project(tmp_path_factory.mktemp("repository")) as project:
        configuration = project.root / "pants.toml"
        # It is everywhere the same.
        configuration.write_text(configuration.read_text() + '\n[unikernel-run]\naccel = "tcg"\n')
        lines = [
            f'unikernel_test(name="{name}", image="//src/services/{service}:unikernel", {fields})'
            for service, tests in (("arguments", _FAILING), ("hello", _FAILING_SERVICE))
            for name, (fields, _) in tests.items()
        ]
        project.write("bad/BUILD", "\n".join(lines) + "\n")
        yield project


def _results(printed: str) -> dict[str, tuple[str, str]]:
    """By address: whether it succeeded, and where the result is from."""
    return {address: (result, source) for address, result, source in _SUMMARY.findall(printed)}


def test_what_the_sample_services_do_is_as_expected_and_is_not_looked_at_twice(project: PantsProject) -> None:
    targets = [
        f"src/services/{name}"
        for name in ("arguments:arguments-and-environment", "hello:answers", "greeter:answers", "sieve:primes")
    ]
    project.succeed("test", *targets)
    # All at once, and anew, though they are known.
    printed = project.succeed("test", "--force", "--report", *targets)
    assert _results(printed) == {target: ("succeeded", "") for target in targets}
    # Not shown of what succeeds.
    assert "ok     http" not in printed
    report = ElementTree.parse(project.root / "dist/test/reports/src.services.hello.answers.xml").getroot()
    (suite,) = report
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("src/services/hello:answers", "4", "0")
    assert [case.get("name") for case in suite.iter("testcase")] == [
        "http GET /greet on port 8080: 200",
        "http POST / on port 8080: 405",
        "tcp port 8080: ^HTTP/1.1 200 OK",
        "console: hello: listening on port 8080",
    ]
    assert "hello: listening on port 8080\n" in suite.findtext("system-out", "")
    console = project.root / "dist/test/src.services.hello.answers/console.log"
    assert b"hello: listening on port 8080" in console.read_bytes()
    again = project.succeed("test", "--report", "--output=all", *targets)
    assert {result for result, _ in _results(again).values()} == {"succeeded"}
    assert all(source in _NOT_RUN for _, source in _results(again).values()), again
    assert "ok     http GET /greet on port 8080: 200" in again


def test_only_what_is_expected_otherwise_is_looked_at_again(project: PantsProject) -> None:
    build = project.root / "src/services/hello/BUILD"
    before = build.read_text()
    target = "src/services/hello:answers"
    project.succeed("test", target)
    # Another text, and the same expectations.
    build.write_text(before + f"# {_NEW}\n")
    assert _results(project.succeed("test", target))[target][1] in _NOT_RUN
    build.write_text(before.replace('console=["hello: listening', f'console_not=["{_NEW}"],\n    console=["hello: listening'))
    try:
        printed = project.succeed("test", target)
        assert _results(printed) == {target: ("succeeded", "")}
        # The image is as it was.
        assert "Completed: Link" not in printed
    finally:
        build.write_text(before)


def test_what_is_not_as_expected_is_explained_with_the_console(project: PantsProject) -> None:
    status, printed = project.run("test", "--report", "bad::")
    assert status == 1
    assert _results(printed) == {f"bad:{name}": ("failed", "") for name in (*_FAILING, *_FAILING_SERVICE)}
    for name, (_, words) in {**_FAILING, **_FAILING_SERVICE}.items():
        assert words in printed, f"{name}: {words!r} is not in:\n{printed}"
        suite = ElementTree.parse(project.root / f"dist/test/reports/bad.{name}.xml").getroot()[0]
        failures = [failure.get("message", "") for failure in suite.iter("failure")]
        assert len(failures) == int(suite.get("failures", "0")) == 1, name
        assert words in failures[0]
        assert suite.findtext("system-out")
    assert "The end of the console:\n" in printed
    assert "  hello: listening on port 8080\n" in printed
    assert "  argument 1: --greeting=hello, world\n" in printed
    # What failed is looked at again.
    again = _results(project.run("test", "bad:status")[1])
    assert again["bad:status"] == ("failed", "")


@pytest.mark.parametrize(
    "fields, expected",
    [
        (
            'image="//src/services/hello:unikernel", http=[{"port": 22}]',
            "The `http` field in target refused:refused is not valid: 22 is none of the image's TCP ports: 8080.",
        ),
        (
            'image="//src/services/arguments:unikernel", http=[{}]',
            "The `http` field in target refused:refused is not valid: the image has no network.",
        ),
        (
            'image="//src/services/hello:unikernel", console=["("]',
            "The `console` field in target refused:refused is not valid: '(' is no regular expression",
        ),
        (
            'image="//src/services/hello:unikernel", http=[{"url": "/"}]',
            "The `http` field in target refused:refused is not valid: 'url' is none of method, path",
        ),
        (
            'image="//src/services/hello:unikernel", memory="1M"',
            "The `memory` field in target refused:refused is not valid: it is 1M, and linux needs 16M at least.",
        ),
        (
            'image="//src/services/hello:hello"',
            "The `image` field in target refused:refused is not valid: src/services/hello:hello is a `cc_binary`; name a `unikernel_image`.",
        ),
        (
            'image=":unikraft", exit_status=0',
            "The `exit_status` field in target refused:refused is not valid: unikraft has no way to say how its application ended",
        ),
    ],
)
def test_what_cannot_be_expected_is_refused_before_anything_is_built(project: PantsProject, fields: str, expected: str) -> None:
    unikraft = 'unikernel_image(name="unikraft", app="//src/services/hello", library_os="unikraft")\n'
    build = project.write("refused/BUILD", f'{unikraft}unikernel_test(name="refused", {fields})\n')
    try:
        status, printed = project.run("test", "refused:refused")
    finally:
        build.unlink()
    assert status != 0
    assert expected in printed, printed
    assert "Completed: " not in printed
    assert "Traceback" not in printed


def test_a_services_own_tests_run_in_its_image(project: PantsProject) -> None:
    targets = ["src/services/greeter:tests-in-image", "src/services/wordcount:tests-in-image"]
    printed = project.succeed("test", "--force", "--report", *targets)
    assert _results(printed) == {target: ("succeeded", "") for target in targets}
    root = ElementTree.parse(project.root / "dist/test/reports/src.services.greeter.tests-in-image.xml").getroot()
    assert [(case.get("classname"), case.get("name")) for case in root.iter("testcase")] == [
        ("greeter.greeting_test", "test_greets_by_name_and_escapes_it"),
        ("greeter.greeting_test", "test_knows_only_its_own_paths"),
    ]
    console = (project.root / "dist/test/src.services.greeter.tests-in-image/console.log").read_text()
    assert "2 passed" in console
    assert "@@unikernel-report" not in console


def test_tests_in_an_image_see_the_image_and_a_failure_is_shown(project: PantsProject) -> None:
    """The image's kernel, files, environment and user are there; an edit of a test makes one layer, and links."""
    project.write("src/services/image_tests/settings.txt", "from the image\n")
    project.write(
        "src/services/image_tests/service.py", "import markupsafe\n\ndef answer() -> int:\n    return 42\n\nprint(answer())\n"
    )
    project.write(
        "src/services/image_tests/conftest.py", "import pytest\n\n@pytest.fixture\ndef expected() -> int:\n    return 42\n"
    )
    project.write(
        "src/services/image_tests/service_test.py",
        textwrap.dedent(
            """
            import os
            import random
            import sys
            from image_tests.service import answer

            def test_answer(expected):
                assert answer() == expected
                assert answer.__code__.co_filename == "/app/image_tests/service.py"

            def test_platform():
                with open("/proc/version") as stream:
                    assert "unikernel" in stream.read().lower() or os.path.exists("/.unikernel/init")
                with open("/etc/settings") as stream:
                    assert stream.read() == "from the image\\n"
                assert os.environ["OF_THE_IMAGE"] == "1" and os.environ["OF_THE_TESTS"] == "2"
                assert os.getuid() == 1000
                assert sys.argv[1:] == []

            def test_large():
                assert answer() == 43, random.Random(0).randbytes(200_000).hex()
            """
        ),
    )
    project.write(
        "src/services/image_tests/BUILD",
        textwrap.dedent(
            """
            python_sources(resolve="services")
            python_test_utils(name="test_utils", resolve="services")
            python_tests(name="tests", resolve="services")
            pex_binary(name="service", entry_point="service.py", resolve="services")
            file(name="settings", source="settings.txt")
            unikernel_image(
                name="unikernel",
                app=":service",
                args=["--an-argument-of-the-application"],
                env={"OF_THE_IMAGE": "1"},
                files=[(":settings", "/etc/settings")],
                user="1000",
                memory="160M",
                network="none",
            )
            unikernel_python_tests(name="in-image", image=":unikernel", tests=[":tests"], env={"OF_THE_TESTS": "2"}, timeout=240)
            """
        ),
    )
    target = "src/services/image_tests:in-image"
    status, printed = project.run("test", "--report", target)
    assert status == 1
    assert _results(printed) == {target: ("failed", "")}, printed
    assert "assert 42 == 43" in printed
    root = ElementTree.parse(project.root / "dist/test/reports/src.services.image_tests.in-image.xml").getroot()
    results = {case.get("name"): case.find("failure") is None for case in root.iter("testcase")}
    assert results == {"test_answer": True, "test_platform": True, "test_large": False}, printed
    # All of it came through.
    (failure,) = root.iter("failure")
    assert random.Random(0).randbytes(200_000).hex() in failure.get("message", "") + (failure.text or "")
    file = project.root / "src/services/image_tests/service_test.py"
    file.write_text(file.read_text().replace("== 43", f"== 42  # {_NEW}"))
    printed = project.succeed("test", target)
    ran = re.findall(r"\[INFO\] Completed: (.*)", printed)
    assert {process for process in ran if "Link" in process or "Lay out" in process or "List" in process} == {
        "Lay out the tests of src/services/image_tests:in-image",
        "Link src/services/image_tests:unikernel with its tests",
    }


def test_pytest_needs_python(project: PantsProject) -> None:
    build = project.write(
        "refused/BUILD",
        'unikernel_python_tests(name="refused", image="//src/services/hello:unikernel", tests=["//src/services/greeter:tests"])\n',
    )
    try:
        status, printed = project.run("test", "refused:refused")
    finally:
        build.unlink()
    assert status != 0
    assert "src/services/hello:hello, a `cc_binary`, is no Python application" in printed, printed
    assert "Traceback" not in printed


def test_a_test_can_be_followed(project: PantsProject) -> None:
    printed = project.succeed("test", "--debug", "src/services/arguments:arguments-and-environment")
    assert "argument 1: --greeting=hello, world" in printed
    assert "ok     exit status 3" in printed
