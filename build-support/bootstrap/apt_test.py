from __future__ import annotations

import io
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import apt
from apt import Root
from commands import CommandFailed
from errors import BootstrapError
from needs import Need
from progress import Progress

_GCC = Need(("gcc",), program="no-such-program-gcc")


@pytest.fixture
def apt_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for Debian's commands, of which the installation fails with the text of the file that is returned."""
    message = tmp_path / "message"
    for name, script in {
        "apt-get": f'case "$*" in *--print-uris*) echo "\'http://x/a.deb\' a.deb 2000000 SHA256:1";; '
        f"*install*) cat {message} >&2; exit 100;; esac",
        "apt-cache": 'echo "  Candidate: 1.0"',
        "dpkg": ":",
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return message


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("E: Failed to fetch x  Temporary failure resolving 'mirror'", "Check the network, the proxy"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "the disk that holds"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt)", "another program holds apt's lock"),
        ("E: Unable to locate package gcc", "Unable to locate package gcc"),
        ("dpkg: error processing package gcc\nE: Sub-process /usr/bin/dpkg failed", "error processing package gcc"),
    ],
)
def test_each_failure_is_one_line_with_a_fix(apt_fails: Path, tmp_path: Path, said: str, expected: str) -> None:
    apt_fails.write_text(said + "\n")
    with pytest.raises(BootstrapError) as raised:
        apt.install([_GCC], Root(()), Progress(io.StringIO()), tmp_path / "log")
    assert expected in str(raised.value)
    assert "./bootstrap again" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_apt_reports_how_far_it_has_come() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    status = apt._Status(40, 200, progress)
    status.read("dlstatus:3:50.0000:Retrieving file 3 of 40")
    assert progress._detail == "downloaded 100 of 200 MB"
    assert not status.installs
    status.read("pmstatus:libc6:amd64:25.0000:Unpacking libc6")
    assert progress._detail == "installed 10 of 40 packages"
    assert status.installs
    status.read("Get:1 http://mirror/debian bookworm InRelease")
    status.read("pmstatus:")
    assert progress._detail == "installed 10 of 40 packages"


def test_the_packages_scripts_have_a_standard_output(apt_fails: Path, tmp_path: Path) -> None:
    """apt closes the descriptor of its status for them, which is thus one of its own."""
    apt_get = tmp_path / "apt-get"
    apt_get.write_text(
        """#!/bin/sh
case "$*" in
*Status-Fd=3*) exec 3>&- || exit 1; echo printed >&1 || exit 2; echo "E: the end" >&2; exit 100;;
esac
"""
    )
    log = tmp_path / "log"
    with pytest.raises(BootstrapError, match="the end"):
        apt.install([_GCC], Root(()), Progress(io.StringIO()), log)
    assert "printed" in log.read_text()


def test_the_first_package_that_apt_offers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = {"docker.io", "linux-source-6.12"}
    monkeypatch.setattr(apt, "query", lambda *argv: f"  Candidate: {'1.0' if argv[-1] in offered else '(none)'}\n")
    needs = [
        Need(("docker-cli", "docker.io"), program="docker"),
        Need(("docker.io",), program="dockerd"),
        Need(("linux-source-6.1", "linux-source-6.12"), file="/usr/src/x"),
    ]
    assert apt.package_names(needs) == ["docker.io", "linux-source-6.12"]


def test_the_command_is_one_that_debian_takes() -> None:
    command = apt.install_command(["gcc", "make"])
    assert command == "sudo apt-get install --yes --no-install-recommends gcc make"


def test_failures_name_the_reason_of_the_lists_first() -> None:
    lists = CommandFailed(["apt-get"], 100, ["E: The repository has no Release file."])
    failure = CommandFailed(["apt-get"], 100, ["E: Unable to locate package gcc"])
    assert "no Release file" in str(apt._install_error(failure, lists, ["gcc"], Path("log")))


def test_a_query_that_fails_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(argv: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, 1, stdout="nonsense")

    monkeypatch.setattr(subprocess, "run", fails)
    assert apt.query("dpkg", "--audit") == ""


def test_sizes_are_read_with_and_without_a_digest() -> None:
    listing = "'http://x/a.deb' a.deb 2000000 SHA256:1\n'http://x/b_1.0%2bdeb12u1.deb' b_1.0+deb12u1.deb 300 \nW: not a package 7\n"
    assert apt.download_sizes(listing) == [2000000, 300]
