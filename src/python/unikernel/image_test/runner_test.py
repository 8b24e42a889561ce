"""With a machine that is none: what it writes, answers and ends with is as each test says."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unikernel.cli import main
from unikernel.errors import UnikernelError
from unikernel.image import manifest as image_manifest
from unikernel.image.manifest_pb2 import LibraryOs, Manifest, Network, Start
from unikernel.image.manifest_pb2 import Port as ManifestPort
from unikernel.image_test import pytest_in_guest, runner
from unikernel.image_test.expectations import Expectations
from unikernel.image_test.runner import Outcome, run_image_test
from unikernel.run.machine import Ended, Output
from unikernel.run.options import RunOptions
from unikernel.testing.images import image_with_note

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
Guest = Callable[["FakeMachine"], "Ended | None"]


class FakeMachine:
    """`guest` runs in a thread, and returns how the machine ended, or None for one that runs on until it is stopped."""

    guest: Guest
    made: list[FakeMachine]

    def __init__(self, image: Path, options: RunOptions, output: Output) -> None:
        self.image, self.options, self.output = image, options, output
        self.ports: dict[tuple[int, str], int] = {}
        self._ended: Ended | None = None
        self._over = threading.Event()
        self.made.append(self)

    def __enter__(self) -> FakeMachine:
        for port in self.options.ports or ():
            assert port.host_port == 0
            listener = socket.create_server(("127.0.0.1", 0))
            self.ports[port.guest_port, port.protocol] = listener.getsockname()[1]
            threading.Thread(target=self._serve, args=(listener, port.guest_port), daemon=True).start()
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def _run(self) -> None:
        self._ended = type(self).guest(self)
        if self._ended is not None:
            self._over.set()

    def _serve(self, listener: socket.socket, guest_port: int) -> None:
        with listener:
            while True:
                connection, _ = listener.accept()
                with connection:
                    if guest_port == 8080:
                        connection.recv(1 << 16)
                        connection.sendall(_OK)

    def write(self, text: str | bytes) -> None:
        self.output.write("console", text.encode() if isinstance(text, str) else text)

    def wait(self, timeout: float | None = None) -> Ended | None:
        self._over.wait(timeout)
        return self._ended

    def stop(self) -> None:
        self._ended = self._ended or Ended(None, "The machine was stopped.")
        self._over.set()

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture()
def machine(monkeypatch: pytest.MonkeyPatch) -> type[FakeMachine]:
    class Machine(FakeMachine):
        made = []

    monkeypatch.setattr(runner, "Machine", Machine)
    return Machine


def _image(tmp_path: Path, library_os: str = "linux", **changes: Any) -> Path:
    manifest = Manifest(
        name="service",
        target="src/service:unikernel",
        library_os=LibraryOs(name=library_os),
        network=Network(mode="dhcp"),
        ports=[ManifestPort(guest_port=8080, host_port=8080, protocol="tcp")],
        start=Start(program="/app/a", arguments=["/app/a"]),
        memory_bytes=1 << 26,
        **changes,
    )
    return image_with_note(tmp_path / "image", image_manifest.encode(manifest))


def _run(tmp_path: Path, guest: Guest, machine: type[FakeMachine], library_os: str = "linux", **expectations: Any) -> Outcome:
    machine.guest = staticmethod(guest)  # type: ignore[assignment]
    return run_image_test(_image(tmp_path, library_os), Expectations.parse({"timeout": 20, **expectations}), RunOptions())


def _results(outcome: Outcome) -> dict[str, str]:
    return {case.name: case.failure for case in outcome.cases}


def _runs_on(machine: FakeMachine) -> Ended | None:
    machine.write("service: listening\r\n")
    return None


def _ends(status: int | None, text: str = "", failure: str = "") -> Guest:
    def guest(machine: FakeMachine) -> Ended | None:
        machine.write(text)
        return Ended(status, failure)

    return guest


def test_a_service_that_does_all_that_is_expected(tmp_path: Path, machine: type[FakeMachine]) -> None:
    outcome = _run(
        tmp_path, _runs_on, machine, http=[{"body": "hello"}], tcp=[{}], console=["listening$"], console_not=["Traceback"]
    )
    assert _results(outcome) == {
        "http GET / on port 8080: 200": "",
        "tcp port 8080": "",
        "console: listening$": "",
        "console_not: Traceback": "",
    }
    assert outcome.holds
    assert outcome.to_text(10).splitlines()[0] == "ok     http GET / on port 8080: 200"
    # A port on which nothing listens is forwarded, too.
    assert [port.guest_port for port in machine.made[0].options.ports or ()] == [8080, 1]
    (suite,) = ElementTree.fromstring(outcome.report)
    assert suite.get("name") == "src/service:unikernel"
    assert suite.findtext("system-out") == "service: listening\n"


def test_what_is_not_as_expected_is_explained(tmp_path: Path, machine: type[FakeMachine]) -> None:
    def guest(machine: FakeMachine) -> Ended | None:
        machine.write("one\nTraceback (most recent call last):\n")
        return None

    start = time.monotonic()
    outcome = _run(tmp_path, guest, machine, http=[{"status": 404}], console=["listening"], console_not=["Trace"], timeout=1)
    assert time.monotonic() - start < 5
    assert _results(outcome) == {
        "http GET / on port 8080: 404": "GET / on port 8080: expected the status 404, and it is 200 OK; its body is 'hello\\n'.",
        "console: listening": "expected a line that matches 'listening', and there is none.",
        "console_not: Trace": "expected no line that matches 'Trace', and there is 'Traceback (most recent call last):'.",
    }
    text = outcome.to_text(1)
    assert "FAILED console: listening\n" in text
    assert text.endswith("The end of the console:\n  Traceback (most recent call last):\n")
    assert ElementTree.fromstring(outcome.report)[0].get("failures") == "3"


@pytest.mark.parametrize(
    "guest, expected, failure",
    [
        (_ends(0), None, ""),
        (_ends(3), 3, ""),
        (_ends(3), 0, "expected the status 0, and it ended with status 3."),
        (
            _ends(None, failure="The kernel panicked."),
            0,
            "expected the status 0, and it ended without a status: The kernel panicked.",
        ),
        (_runs_on, 0, "expected the application to end with status 0, and it ran on for 0.5 seconds."),
    ],
)
def test_an_exit_status(tmp_path: Path, machine: type[FakeMachine], guest: Guest, expected: int | None, failure: str) -> None:
    outcome = _run(tmp_path, guest, machine, exit_status=expected, timeout=0.5 if guest is _runs_on else 20)
    assert _results(outcome) == {f"exit status {expected or 0}": failure}


def test_an_image_that_ends_is_not_waited_for(tmp_path: Path, machine: type[FakeMachine]) -> None:
    start = time.monotonic()
    outcome = _run(tmp_path, _ends(1, "no end of line: done"), machine, console=["done$", "listening"])
    assert time.monotonic() - start < 5
    assert _results(outcome) == {
        "console: done$": "",
        "console: listening": "expected a line that matches 'listening', and there is none.",
    }


def test_a_library_os_that_fails_is_no_end_that_nobody_asked_for(tmp_path: Path, machine: type[FakeMachine]) -> None:
    panic = _ends(None, "ready\n", "linux failed: panic.")
    outcome = _run(tmp_path, panic, machine, console=["ready"])
    assert _results(outcome) == {"console: ready": "", "machine": "it ended without a status: linux failed: panic."}
    # Unikraft has no way to say how it ended.
    outcome = _run(tmp_path, panic, machine, "unikraft", console=["ready"])
    assert _results(outcome) == {"console: ready": ""}


def test_what_it_is_booted_with(tmp_path: Path, machine: type[FakeMachine]) -> None:
    _run(tmp_path, _ends(0), machine, memory="96M", args=["a b"], env={"A": "1"})
    (made,) = machine.made
    assert made.options == RunOptions(memory=96 << 20, ports=[], arguments=("a b",), environment={"A": "1"})


def test_an_image_that_cannot_be_asked_is_not_booted(tmp_path: Path, machine: type[FakeMachine]) -> None:
    with pytest.raises(UnikernelError, match="image cannot be tested like this: http: 22 is none of the image's TCP ports: 8080"):
        _run(tmp_path, _runs_on, machine, http=[{"port": 22}])
    assert machine.made == []


def _reports(content: bytes, status: int) -> Guest:
    def guest(machine: FakeMachine) -> Ended | None:
        stream = io.StringIO()
        pytest_in_guest.write_report(stream, content, status)
        machine.write("1 passed\n" + stream.getvalue())
        return None

    return guest


def test_the_report_of_tests_in_the_image_is_theirs(tmp_path: Path, machine: type[FakeMachine]) -> None:
    outcome = _run(tmp_path, _reports(b"<testsuites/>", 0), machine, "unikraft", python_tests=True)
    assert (_results(outcome), outcome.report) == ({"pytest": ""}, b"<testsuites/>")
    assert outcome.console.content == b"1 passed\n\n"
    outcome = _run(tmp_path, _reports(b"<testsuites/>", 1), machine, python_tests=True)
    assert (_results(outcome), outcome.report) == ({"pytest": "pytest ended with status 1."}, b"<testsuites/>")


def test_tests_in_the_image_that_do_not_report(tmp_path: Path, machine: type[FakeMachine]) -> None:
    outcome = _run(tmp_path, _ends(137, "Killed\n"), machine, python_tests=True)
    assert _results(outcome) == {"pytest": "the image ended first, with status 137."}
    assert ElementTree.fromstring(outcome.report)[0].get("failures") == "1"
    outcome = _run(tmp_path, _runs_on, machine, python_tests=True, timeout=0.5)
    assert _results(outcome) == {"pytest": "the tests did not end within 0.5 seconds."}


def test_the_command(tmp_path: Path, machine: type[FakeMachine], capsys: pytest.CaptureFixture[str]) -> None:
    machine.guest = staticmethod(_ends(1, "an error\n"))  # type: ignore[assignment]
    image, report, console = _image(tmp_path), tmp_path / "new/report.xml", tmp_path / "new/console.log"
    expectations = tmp_path / "expectations.json"
    expectations.write_text(json.dumps({"exit_status": 0, "name": "mine"}))
    command = [
        "test",
        str(image),
        f"--expect={expectations}",
        f"--report={report}",
        f"--console={console}",
        "--accel=tcg",
        "--trusted",
    ]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert printed == (
        "FAILED exit status 0\n\nexit status 0\n  expected the status 0, and it ended with status 1.\n\nThe end of the console:\n  an error\n"
    )
    assert ElementTree.parse(report).getroot()[0].get("name") == "mine"
    assert console.read_bytes() == b"an error\n"
    options = machine.made[0].options
    assert (options.accelerator, options.is_verified) == ("tcg", True)
    expectations.write_text(json.dumps({"exit_status": 1}))
    assert main(command) == 0
    assert capsys.readouterr().out == "ok     exit status 1\n"
    expectations.write_text(json.dumps({"exit": 1}))
    assert main(command) == 1
    assert "unikernel: " in capsys.readouterr().err


def test_it_can_be_followed(tmp_path: Path, machine: type[FakeMachine]) -> None:
    machine.guest = staticmethod(_ends(0, "one\ntwo\n"))  # type: ignore[assignment]
    live = io.BytesIO()
    outcome = run_image_test(_image(tmp_path), Expectations(), RunOptions(), live)
    assert live.getvalue() == b"one\ntwo\n"
    assert outcome.holds
