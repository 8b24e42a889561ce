"""Boots an image once and holds it against what is expected of it."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Callable, Protocol

from unikernel.errors import UnikernelError
from unikernel.image.manifest import read_manifest
from unikernel.image.manifest_pb2 import Manifest
from unikernel.image.spec import Port, parse_size
from unikernel.image_test.case import Case
from unikernel.image_test.console import Console, plain
from unikernel.image_test.expectations import Expectations, NotAsExpectedError
from unikernel.library_os import library_os_of
from unikernel.library_os.description import ExitReport
from unikernel.run.machine import CONSOLE, Ended, Machine
from unikernel.run.options import RunOptions

# Of which the lowest that the image does not listen on is asked whether the image is on its network: tcpmux and its neighbours.
_HARDLY_USED_PORTS = range(1, 1 << 16)


class _Running(Protocol):
    """Of a Machine, what a test needs."""

    def wait(self, timeout: float | None = None) -> Ended | None:
        ...


@dataclass(frozen=True)
class Outcome:
    """`report` is JUnit XML; of tests in the image, it is their own."""

    name: str
    cases: Sequence[Case]
    console: Console
    report: bytes

    @property
    def holds(self) -> bool:
        return not any(case.failure for case in self.cases)

    def to_text(self, lines: int) -> str:
        """What holds, what does not and why; then the last `lines` of the console, if something does not."""
        text = "".join(f"{'FAILED' if case.failure else 'ok':6} {case.name}\n" for case in self.cases)
        if self.holds:
            return text
        text += "".join(f"\n{case.name}\n  {case.failure}\n" for case in self.cases if case.failure)
        shown = self.console.last_lines(lines)
        if not lines:
            return text
        if not shown:
            return f"{text}\nThere was nothing on the console.\n"
        return f"{text}\nThe end of the console:\n" + "".join(f"  {line}\n" for line in shown)


def run_image_test(image: Path, expectations: Expectations, options: RunOptions, live: BinaryIO | None = None) -> Outcome:
    """`live` gets the console as it comes. Raises UnikernelError for an image that cannot be booted, or not be asked for this."""
    manifest = read_manifest(image)
    library_os = library_os_of(manifest)
    ports = [Port(port.guest_port, 0, port.protocol) for port in manifest.ports]
    has_network = manifest.network.mode != "none"
    try:
        expectations = expectations.for_image(library_os, ports, has_network=has_network)
    except ValueError as error:
        raise UnikernelError(f"{image} cannot be tested like this: {error}.") from error
    probes = bool(expectations.http or expectations.tcp)
    closed = _closed_port(ports)
    options = replace(
        options,
        memory=parse_size(expectations.memory) if expectations.memory else None,
        ports=[*ports, closed] if probes else [],
        arguments=expectations.args,
        environment=dict(expectations.env),
    )
    console = Console(expectations.console, expectations.console_not, live)
    start = time.monotonic()
    cases: list[Case] = []
    with Machine(image, options, output=console) as machine:
        run = _Run(machine, console, expectations, start, cases)
        if probes:
            run.probe(machine.ports, closed)
        run.wait_for_console()
        run.wait_for_end(reports=library_os.exit.report is not ExitReport.NONE)
        machine.stop()
        ended = machine.wait()
    if ended is not None and ended.crash:
        from unikernel.image.debug_file import find_debug_file
        from unikernel.run.crash import crash_text

        console.write(CONSOLE, crash_text(ended.crash, image, find_debug_file(image)).encode())
    console.finish()
    run.look_back()
    return _outcome(expectations, manifest, cases, console, time.monotonic() - start)


def _closed_port(ports: Sequence[Port]) -> Port:
    listening = {port.guest_port for port in ports}
    return Port(next(port for port in _HARDLY_USED_PORTS if port not in listening), 0)


def _outcome(expectations: Expectations, manifest: Manifest, cases: Sequence[Case], console: Console, seconds: float) -> Outcome:
    from unikernel.image_test.report import junit_xml

    name = expectations.name or manifest.target or manifest.name
    text = "".join(f"{plain(line)}\n" for line in console.content.splitlines())
    report = junit_xml(name, cases, seconds, text)
    if expectations.python_tests and console.report.is_complete:
        try:
            # That of a pytest that could not start is empty.
            report = console.report.content() or report
        except ValueError as error:
            cases = [*cases, Case("report", 0, f"{error}.")]
            report = junit_xml(name, cases, seconds, text)
    return Outcome(name, cases, console, report)


@dataclass
class _Run:
    """One boot. `cases` is filled as expectations prove to hold, or not to."""

    machine: _Running
    console: Console
    expectations: Expectations
    start: float
    cases: list[Case]
    _seconds: dict[str, float] = field(default_factory=dict)

    @property
    def deadline(self) -> float | None:
        timeout = self.expectations.timeout
        return None if timeout is None else self.start + timeout

    def left(self) -> float | None:
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0)

    def why_gone(self) -> str:
        ended = self.machine.wait(0)
        return "" if ended is None else f"the image ended first, {_how(ended)}"

    @contextmanager
    def _case(self, name: str) -> Iterator[None]:
        start, failure = time.monotonic(), ""
        try:
            yield
        except NotAsExpectedError as error:
            failure = f"{error}."
        self.cases.append(Case(name, time.monotonic() - start, failure))

    def probe(self, ports: Mapping[tuple[int, str], int], closed: Port) -> None:
        """`ports` are a Machine's, and `closed` is among them."""
        # It takes a tenth of a second, in which the machine boots; so does what a report is written with.
        from unikernel.image_test.probes import Network, probe_http, probe_tcp

        by_guest = {guest: host for (guest, protocol), host in ports.items() if protocol == "tcp"}
        network = Network(by_guest, by_guest.get(closed.guest_port), self.deadline, self.why_gone)
        for http in self.expectations.http:
            with self._case(http.title):
                probe_http(http, network)
        for tcp in self.expectations.tcp:
            with self._case(tcp.title):
                probe_tcp(tcp, network)

    def wait_for_console(self) -> None:
        for expression in self.expectations.console:
            start = time.monotonic()
            self._wait(functools.partial(self.console.wait_for, expression))
            self._seconds[expression] = time.monotonic() - start

    def wait_for_end(self, *, reports: bool) -> None:
        expected = self.expectations.exit_status
        if self.expectations.python_tests:
            with self._case("pytest"):
                if not self._wait(self.console.wait_for_report):
                    gone = self.why_gone()
                    raise NotAsExpectedError(gone or f"the tests did not end within {self.expectations.timeout:g} seconds")
                if self.console.report.status:
                    raise NotAsExpectedError(f"pytest ended with status {self.console.report.status}")
        elif expected is not None:
            with self._case(f"exit status {expected}"):
                ended = self.machine.wait(self.left())
                if ended is None:
                    raise NotAsExpectedError(
                        f"expected the application to end with status {expected}, and it ran on for {self.expectations.timeout:g} seconds"
                    )
                if ended.status != expected:
                    raise NotAsExpectedError(f"expected the status {expected}, and it ended {_how(ended)}")
        elif reports:
            ended = self.machine.wait(0)
            if ended is not None and ended.status is None:
                # Not a status that nobody asked for, but a library OS that failed.
                self.cases.append(Case("machine", 0, f"it ended {_how(ended)}."))

    def _wait(self, wait: Callable[[float], bool]) -> bool:
        """Whether it came while the image ran and the time was not up. `wait` takes seconds."""
        while not wait(_step(self.left())):
            if self.machine.wait(0) is not None or self.left() == 0:
                return wait(0)
        return True

    def look_back(self) -> None:
        """What only the whole console tells: the last lines of an image that ended may have been on their way."""
        for expression in self.expectations.console:
            failure = (
                ""
                if self.console.found(expression) is not None
                else f"expected a line that matches {expression!r}, and there is none."
            )
            self.cases.append(Case(f"console: {expression}", self._seconds[expression], failure))
        for expression in self.expectations.console_not:
            line = self.console.found(expression)
            failure = f"expected no line that matches {expression!r}, and there is {line!r}." if line is not None else ""
            self.cases.append(Case(f"console_not: {expression}", 0, failure))


# An image that ends is noticed that soon.
_STEP_SECONDS = 0.2


def _step(left: float | None) -> float:
    return _STEP_SECONDS if left is None else min(left, _STEP_SECONDS)


def _how(ended: Ended) -> str:
    if ended.status is not None:
        return f"with status {ended.status}"
    return f"without a status: {ended.failure.rstrip('.')}"
