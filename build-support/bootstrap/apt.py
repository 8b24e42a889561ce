"""Installs Debian packages with the machine's apt, and shows how far that has come."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from commands import CommandFailed, run
from errors import BootstrapError, full_disk_error
from needs import Need, missing
from progress import Progress

_INSTALL = ("install", "--yes", "--no-install-recommends")
_LOCK_SECONDS = 600
# Runs what follows it with its standard output as descriptor 3, too. apt closes the descriptor of its status
# for the packages' scripts, of which some fail without a standard output; sudo closes all but the first three.
_WITH_STATUS = ("sh", "-c", 'exec "$@" 3>&1', "sh")
# apt and dpkg, as every environment sees them: their messages are read.
ENVIRONMENT = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
_NO_NETWORK = (
    "Temporary failure resolving",
    "Could not resolve",
    "Could not connect",
    "Cannot initiate the connection",
    "Unable to connect",
    "Connection failed",
    "Connection timed out",
    "Network is unreachable",
    "407  ",
)
_TRY_AGAIN = "then run ./bootstrap again"


def query(*argv: str) -> str:
    """Return what an apt command prints, nothing when it fails."""
    result = subprocess.run(
        argv,
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    )
    return result.stdout if result.returncode == 0 else ""


def is_available() -> bool:
    """Return whether this machine installs packages with apt."""
    return shutil.which("apt-get") is not None


def package_names(needs: Iterable[Need]) -> list[str]:
    """Return the packages that meet the needs, each once: of each need the first that apt offers."""
    names: dict[str, None] = {}
    for need in needs:
        offered = (name for name in need.packages if _has_candidate(name))
        names[next(offered, need.packages[-1])] = None
    return list(names)


def _has_candidate(name: str) -> bool:
    return re.search(r"^ *Candidate: *\d", query("apt-cache", "policy", name), re.MULTILINE) is not None


@dataclass(frozen=True)
class Root:
    """How commands are run as root: `prefix` comes before them. `None` in its place means not at all."""

    prefix: tuple[str, ...]


def find_root() -> Root | None:
    """Return how this user becomes root without a question, None if that cannot be."""
    if os.geteuid() == 0:
        return Root(())
    if shutil.which("sudo") is not None:
        answer = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if answer.returncode == 0:
            return Root(("sudo", "-n"))
    return None


def install_command(names: Sequence[str]) -> str:
    """Return the command that a person with the right to do so types."""
    return f"sudo apt-get install --yes --no-install-recommends {' '.join(names)}"


def install(needs: Sequence[Need], root: Root, progress: Progress, log: Path) -> None:
    """Install what meets the needs; raise BootstrapError when a need is not met afterwards."""
    apt = ("env", *(f"{key}={value}" for key, value in ENVIRONMENT.items()), "apt-get")
    apt = (*apt, "-o", f"DPkg::Lock::Timeout={_LOCK_SECONDS}", "-o", "Dpkg::Use-Pty=0")
    lists = _update((*root.prefix, *apt), progress, log)
    names = package_names(needs)
    _repair((*root.prefix, *apt), root, progress, log)
    count, megabytes = _to_download(names)
    status = _Status(count, megabytes, progress)
    size = (
        f"{count} Debian {'package' if count == 1 else 'packages'} ({megabytes:,} MB to download)" if count else "Debian packages"
    )
    try:
        with progress.step(f"installing {size}"):
            run(
                [*root.prefix, *_WITH_STATUS, *apt, "-o", "APT::Status-Fd=3", *_INSTALL, *names],
                log=log,
                on_line=status.read,
                # Half of an installation is worse than a minute of waiting.
                must_end=lambda: status.installs,
            )
    except CommandFailed as failure:
        raise _install_error(failure, lists, names, log) from failure
    unmet = missing(needs)
    if unmet:
        names = package_names(unmet)
        raise BootstrapError(
            f"{' '.join(names)} did not bring {', '.join(need.program or need.file for need in unmet)}. "
            f"Put it on PATH yourself, {_TRY_AGAIN}. The log is {log}."
        )


def _update(apt: Sequence[str], progress: Progress, log: Path) -> CommandFailed | None:
    """Read the mirror's lists. Return the failure, if it failed in a way that the lists that are here may make up for."""
    try:
        with progress.step("reading the lists of Debian packages"):
            run([*apt, "-o", "Acquire::Retries=1", "update", "--error-on=any"], log=log)
    except CommandFailed as failure:
        if failure.has(*_NO_NETWORK):
            raise _no_network_error(failure) from failure
        return failure
    return None


def _repair(apt: Sequence[str], root: Root, progress: Progress, log: Path) -> None:
    """Finish what an installation that was killed has left undone."""
    updates = Path("/var/lib/dpkg/updates")
    if not query("dpkg", "--audit").strip() and not any(updates.iterdir() if updates.is_dir() else ()):
        return
    try:
        with progress.step("finishing an installation that was interrupted"):
            run([*root.prefix, "dpkg", "--configure", "-a"], log=log, environment=ENVIRONMENT)
            run([*apt, "--fix-broken", *_INSTALL], log=log)
    except CommandFailed as failure:
        raise BootstrapError(
            f"dpkg was interrupted earlier and cannot finish: {failure.reason} Run `sudo dpkg --configure -a`, " f"{_TRY_AGAIN}."
        ) from failure


def _to_download(names: Sequence[str]) -> tuple[int, int]:
    """Return (packages, megabytes) that an installation downloads."""
    sizes = download_sizes(query("apt-get", "--print-uris", "-qq", *_INSTALL, *names))
    return len(sizes), round(sum(sizes) / 10**6)


def download_sizes(listing: str) -> list[int]:
    """Return the sizes, in bytes, in what `apt-get --print-uris` prints.

    A line is 'ADDRESS' FILE SIZE DIGEST, without a digest where the mirror's lists have none of a kind that apt prints.
    """
    return [int(size) for size in re.findall(r"^'[^']*' \S+ (\d+)(?: .*)?$", listing, re.MULTILINE)]


class _Status:
    """Reads apt's status lines (README.progress-reporting of apt): `dlstatus:N:PERCENT:TEXT`, `pmstatus:NAME:PERCENT:TEXT`."""

    def __init__(self, count: int, megabytes: int, progress: Progress) -> None:
        self.installs = False
        self._count = count
        self._megabytes = megabytes
        self._progress = progress

    def read(self, line: str) -> None:
        kind, _, rest = line.partition(":")
        match = re.match(r".*?:(\d+(?:\.\d+)?):", rest)
        if kind not in ("dlstatus", "pmstatus") or match is None:
            return
        percent = min(float(match[1]), 100.0)
        if kind == "dlstatus":
            self._progress.detail(f"downloaded {percent / 100 * self._megabytes:,.0f} of {self._megabytes:,} MB")
        else:
            self.installs = True
            self._progress.detail(f"installed {percent / 100 * self._count:.0f} of {self._count} packages")


def _no_network_error(failure: CommandFailed) -> BootstrapError:
    return BootstrapError(
        f"apt cannot reach its mirror: {failure.reason} Check the network, the proxy (Acquire::http::Proxy, http_proxy) "
        f"and /etc/apt/sources.list, {_TRY_AGAIN}; it goes on from here."
    )


def _install_error(failure: CommandFailed, lists: CommandFailed | None, names: Sequence[str], log: Path) -> BootstrapError:
    if failure.has("No space left on device", "don't have enough free space"):
        return full_disk_error(Path("/var/cache/apt/archives"))
    if failure.has(*_NO_NETWORK):
        return _no_network_error(failure)
    if lists is not None:
        return BootstrapError(
            f"apt cannot read the lists of its mirror: {lists.reason} Correct /etc/apt/sources.list or "
            f"/etc/apt/sources.list.d (`sudo apt-get update` shows all of it), {_TRY_AGAIN}. The log is {log}."
        )
    if failure.has("Could not get lock", "Unable to acquire the dpkg frontend lock"):
        return BootstrapError(f"another program holds apt's lock: {failure.reason} Let it end, {_TRY_AGAIN}.")
    return BootstrapError(
        f"apt-get could not install {' '.join(names)}: {failure.reason} Mend that (`{install_command(names)}` shows all of it), "
        f"{_TRY_AGAIN}. The log is {log}."
    )
