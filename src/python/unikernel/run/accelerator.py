"""KVM where it proves to run a guest, and QEMU's own emulation (TCG) everywhere else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from unikernel.errors import UnikernelError
from unikernel.library_os.description import KvmProbe, LibraryOs, Machine
from unikernel.run.child import start_child
from unikernel.run.command import BootFiles

# A kernel that runs under KVM is up in a tenth of this time.
_PROBE_SECONDS = 5


def choose_accelerator(wanted: str, program: str, library_os: LibraryOs, machine: Machine, files: BootFiles, memory: str) -> str:
    """ "auto" is KVM where it boots this image's kernel, and TCG, with a line that says so, where not: /dev/kvm alone proves nothing."""
    if wanted != "auto":
        if wanted not in machine.cpu:
            raise UnikernelError(
                f"{library_os.name} is not booted with the accelerator {wanted} on this machine, only with {', '.join(machine.cpu)}."
            )
        return wanted
    probe = library_os.kvm_probe
    if "kvm" not in machine.cpu or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    if probe is None:
        print(
            f"unikernel: nothing short of the application proves that KVM runs {library_os.name} here; using QEMU's own emulation (TCG), "
            "which is slower: --accel=kvm takes KVM",
            file=sys.stderr,
        )
        return "tcg"
    if _kvm_boots(program, machine, probe, files, memory):
        return "kvm"
    print("unikernel: /dev/kvm is there but runs no guest; using QEMU's own emulation (TCG), which is slower", file=sys.stderr)
    return "tcg"


def _kvm_boots(program: str, machine: Machine, probe: KvmProbe, files: BootFiles, memory: str) -> bool:
    """Boots the image's kernel as far as its probe says, without its application. A boot sector proves less: there are machines where KVM
    runs one and fails in a kernel ("KVM internal error", and then silence)."""
    command = [program, "-M", machine.machine, "-accel", "kvm", "-cpu", machine.cpu["kvm"], "-m", memory]
    command += ["-chardev", "stdio,id=console,signal=off"]
    command += [word.format(**files.place(), command_line=probe.append) for word in machine.arguments]
    try:
        process = start_child(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=files.descriptors,
        )
    except OSError:
        return False
    # QEMU stays when KVM gives up; so the end of waiting is its own.
    timer = threading.Timer(_PROBE_SECONDS, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if b"KVM internal error" in line:
                return False
            if probe.sign.encode() in line:
                return True
        return False
    finally:
        timer.cancel()
        process.kill()
        process.wait()
