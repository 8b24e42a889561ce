"""A machine that boots an image: QEMU, controlled by its monitor, or its library OS's own program.

It is a direct child of this process, which the kernel kills with its parent; what connects the two are descriptors, and nothing is in a
file system: however this process ends, neither a machine nor a port nor a file stays behind.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from unikernel.errors import UnikernelError
from unikernel.image.manifest import read_manifest
from unikernel.library_os import library_os_of
from unikernel.library_os.description import ExitReport
from unikernel.library_os.description import Machine as MachineDescription
from unikernel.run.accelerator import choose_accelerator
from unikernel.run.channels import Channels
from unikernel.run.child import start_child
from unikernel.run.command import (
    boot_files,
    check_memory,
    choose_machine,
    find_program,
    memory_of,
    qemu_command,
    streams_of,
    tender_command,
)
from unikernel.run.console_watch import ConsoleWatch
from unikernel.run.options import RunOptions
from unikernel.run.ports import check_ports, forwarded_ports, ports_of

if TYPE_CHECKING:
    from unikernel.run.monitor import Monitor

CONSOLE, STDOUT, STDERR = "console", "stdout", "stderr"
# Read here, and nobody's to see: a crashed application's remains, and its exit status.
_CRASH, _STATUS, _MONITOR = "crash", "status", "monitor"
# After it was asked to, QEMU ends in hundredths of this time.
_END_SECONDS = 5
# What a guest may send when it crashes.
_LARGEST_CRASH = 1 << 24


class Output(Protocol):
    """What comes out of a machine. `stream` is "console" (the library OS's, and all there is where an application's streams do not arrive
    separately), "stdout" or "stderr". Called from one thread, with whatever bytes have come.
    """

    def write(self, stream: str, data: bytes) -> None:
        ...


@dataclass(frozen=True)
class Ended:
    """`status` is the application's exit status, 128 and the signal's number for one that a signal ended; None when the machine ended
    without one, and `failure` says why. `crash` is what the guest sent of an application that crashed.
    """

    status: int | None
    failure: str = ""
    crash: bytes = b""


class Machine:
    """A context manager; the machine is gone at its end. It is entered, left, and asked to stop in one thread.

    Raises UnikernelError when it cannot be booted.
    """

    def __init__(self, image: Path, options: RunOptions, output: Output) -> None:
        self._output, self._options, self.image = output, options, image
        self.manifest = read_manifest(image)
        if self.manifest.library_os.description and not options.is_verified:
            raise UnikernelError(
                f"{image} brings the description of its library OS along, which says what is run on this machine: name a key that you "
                "trust it with, --key PUB."
            )
        self.library_os = library_os_of(self.manifest)
        self._machine: MachineDescription = choose_machine(self.library_os, options.machine)
        self._program = find_program(self.library_os, self._machine, options.program)
        if options.gdb and not self._machine.machine:
            raise UnikernelError(f"{self._machine.program} has no way to attach a debugger: choose a machine of QEMU's.")
        check_memory(self.library_os, self.manifest, options)
        self._wanted_ports = ports_of(self.manifest, options.ports)
        check_ports(self._wanted_ports, options.host)
        self._watch = ConsoleWatch(self.library_os.exit)
        self._status = b""
        self._crash = bytearray()
        self._broken = ""
        self._is_stopping = False
        self._monitor: Monitor | None = None
        self._ended: Ended | None = None
        # By the guest's port and the protocol: the host's port.
        self.ports: Mapping[tuple[int, str], int] = {}

    def __enter__(self) -> Machine:
        with ExitStack() as stack:
            files = stack.enter_context(boot_files(self.image, self.manifest))
            if self._machine.machine:
                sockets = [CONSOLE, _MONITOR]
                if self.library_os.exit.report is ExitReport.IO_PORT:
                    sockets.append(_STATUS)
                memory = memory_of(self.manifest, self._options)
                accelerator = choose_accelerator(
                    self._options.accelerator, self._program, self.library_os, self._machine, files, memory
                )
                argv = qemu_command(
                    self._program,
                    self.library_os,
                    self._machine,
                    files,
                    self.manifest,
                    self._options,
                    self._wanted_ports,
                    accelerator,
                )
            else:
                sockets = []
                argv = tender_command(self._program, self.library_os, self._machine, files, self.manifest, self._options)
            self._channels = stack.enter_context(Channels(self.streams, sockets, self._take))
            descriptors = self._channels.descriptors
            argv += self._channels.options()
            if _STATUS in sockets:
                argv += ["-device", f"isa-debugcon,iobase={self.library_os.exit.port:#x},chardev={_STATUS}"]
            if _MONITOR in sockets:
                argv += ["-mon", f"chardev={_MONITOR},mode=control"]
            if self._options.gdb:
                argv += ["-S", "-chardev", "socket,id=gdb,host=127.0.0.1,port=0,server=on,wait=off", "-gdb", "chardev:gdb"]
            connection = self._channels.take_over(_MONITOR) if _MONITOR in sockets else None
            self._start(argv, [*files.descriptors, *descriptors])
            stack.callback(self._end)
            if connection is not None:
                # Only now: it takes a tenth of a second, in which the machine boots.
                from unikernel.run.monitor import Monitor

                self._monitor = Monitor(connection, self._set_broken)
            self._find_ports()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- while it runs ------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> list[str]:
        """What arrives beside the console."""
        return streams_of(self.library_os, self._machine)

    def wait(self, timeout: float | None = None) -> Ended | None:
        """None: it still runs after so many seconds."""
        if self._ended is None:
            if not self._ends_within(timeout):
                return None
            code = self._process.wait()
            self._channels.join()
            self._watch.end()
            self._ended = self._outcome(code)
        return self._ended

    def fileno(self) -> int:
        """A descriptor that is ready to be read when the machine has ended (pidfd_open(2))."""
        return self._pidfd

    def _ends_within(self, timeout: float | None) -> bool:
        return bool(select.select([self._pidfd], [], [], timeout)[0])

    def stop(self) -> None:
        """Returns when the machine has ended: at its monitor's word, or killed where that does not help."""
        if self._ends_within(0):
            return
        self._is_stopping = True
        if self._monitor is None:
            self._process.terminate()
        else:
            self._monitor.quit()
        if not self._ends_within(_END_SECONDS):
            self._process.kill()
            self._ends_within(None)

    def send(self, data: bytes) -> None:
        """To the console, as if typed there."""
        if self._machine.machine:
            self._channels.send(CONSOLE, data)
        elif self._process.stdin is not None:
            try:
                self._process.stdin.write(data)
                self._process.stdin.flush()
            except OSError:
                pass

    def gdb_port(self) -> int:
        """Where a debugger attaches, on 127.0.0.1."""
        assert self._monitor is not None
        for device in self._monitor.execute("query-chardev"):
            if device["label"] == "gdb":
                # "disconnected:tcp:127.0.0.1:40193,server=on"
                return int(device["filename"].partition(",")[0].rpartition(":")[2])
        raise UnikernelError("QEMU has no place for a debugger to attach.")

    # --- its start and end ----------------------------------------------------------------------------------------------

    def _start(self, argv: Sequence[str], descriptors: Sequence[int]) -> None:
        is_qemu = bool(self._machine.machine)
        try:
            self._process = start_child(
                argv,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL if is_qemu else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise UnikernelError(f"{argv[0]} cannot be started: {error}.") from error
        self._pidfd = os.pidfd_open(self._process.pid)
        assert self._process.stdout is not None
        # What QEMU itself says is among what the console says.
        self._channels.start("vmm" if is_qemu else CONSOLE, self._process.stdout)  # type: ignore[arg-type]

    def _find_ports(self) -> None:
        self.ports = {(port.guest_port, port.protocol): port.host_port for port in self._wanted_ports}
        if self._monitor is None or all(self.ports.values()):
            return
        from unikernel.run.monitor import MonitorError

        try:
            said = self._monitor.execute("human-monitor-command", {"command-line": "info usernet"})
        except MonitorError as error:
            ended = self.wait(_END_SECONDS)
            raise UnikernelError((ended.failure if ended else "") or f"{error}.") from error
        self.ports = {**self.ports, **forwarded_ports(said)}

    def _end(self) -> None:
        self.stop()
        if self._monitor is not None:
            self._monitor.close()
        self._process.wait()
        self._channels.join()
        os.close(self._pidfd)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _set_broken(self, reason: str) -> None:
        self._broken = reason
        self._process.terminate()

    def _take(self, channel: str, data: bytes) -> None:
        if channel == _STATUS:
            self._status = data[-1:]
        elif channel == _CRASH:
            self._crash += data[: _LARGEST_CRASH - len(self._crash)]
        else:
            if channel == CONSOLE:
                self._watch.feed(data)
            try:
                self._output.write(channel if channel in (STDOUT, STDERR) else CONSOLE, data)
            except BrokenPipeError:
                # As in a pipe to `head`. What else comes is read all the same: the machine ends.
                self._set_broken("nobody reads what it prints any more")

    def _outcome(self, code: int) -> Ended:
        report, crash = self.library_os.exit.report, bytes(self._crash)
        if self._status:
            return Ended(self._status[0], crash=crash)
        if self._watch.status is not None:
            return Ended(self._watch.status)
        if self._watch.failure:
            return Ended(None, f"{self.library_os.name} failed: {self._watch.failure}", crash)
        if self._broken:
            return Ended(None, f"The machine cannot go on: {self._broken}.")
        if self._is_stopping:
            return Ended(None, "The machine was stopped.")
        if report is ExitReport.MONITOR:
            return Ended(0 if code in self.library_os.exit.success else code)
        if report is ExitReport.MONITOR_SHIFTED and code & 1:
            return Ended(code >> 1)
        if code != 0:
            return Ended(None, f"The machine ended with status {code} before the application did.")
        if report is ExitReport.NONE:
            return Ended(0)
        return Ended(None, "The machine stopped before the application ended and said how (see the console above).")
