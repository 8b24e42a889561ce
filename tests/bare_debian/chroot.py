"""A bare Debian in a directory, for tests of what a newcomer does on a machine that has nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from unikernel.testing.debian_package import mirror

# All that a newcomer brings.
_PACKAGES = ("ca-certificates", "git", "python3")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# In mount and process namespaces of their own, so that nothing of a command stays: $1 is the
# directory, the rest the command. The device nodes are those that a container has.
_ENTER = """\
root="$1"
shift
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
exec chroot "$root" "$@"
"""
# Without a network there is not even a loopback device that is up (SIOCSIFFLAGS, IFF_UP).
_OFFLINE = """\
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""


class DebianChroot:
    """A minimal Debian of `release` (a code name) below `root`, with Python, git and certificates.

    It shares the network and the kernel with the host, and nothing else: no interpreter, no cache, no
    HOME. Making one takes root, debootstrap and a minute.
    """

    def __init__(self, root: Path, release: str) -> None:
        self.root = root
        include = f"--include={','.join(_PACKAGES)}"
        command = ["debootstrap", "--variant=minbase", include, release, str(root), mirror()]
        made = subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert made.returncode == 0, made.stdout
        for file in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{file}", root / "etc" / file)
        # A machine behind a proxy that looks into TLS has the proxy's certificate.
        own = Path("/usr/local/share/ca-certificates")
        if own.is_dir():
            shutil.copytree(own, root / "usr/local/share/ca-certificates", dirs_exist_ok=True)
        self.succeed("update-ca-certificates")

    def path(self, path: str) -> Path:
        """Return where an absolute path of the machine is on the host."""
        return self.root / path.lstrip("/")

    def add_user(self, name: str) -> None:
        """Add an ordinary user with an empty HOME."""
        self.succeed(f"useradd --no-create-home --shell /bin/bash {name} && install -d -o {name} -g {name} /home/{name}")

    def run(
        self, script: str, *, user: str = "root", environment: Mapping[str, str] | None = None, offline: bool = False
    ) -> tuple[int, str]:
        """Run a Bash script as a login of `user`, and return its exit status and all that it printed.

        Its processes are gone afterwards, those in the background among them.
        """
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *(["--net"] if offline else [])]
        home = "/root" if user == "root" else f"/home/{user}"
        variables = {"HOME": home, "USER": user, "PATH": _PATH, "LANG": "C.UTF-8", **(environment or {})}
        settings = [f"{name}={value}" for name, value in variables.items()]
        command = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "env", "-i", *settings]
        command += ["bash", "--noprofile", "--norc", "-c", script]
        if offline:
            command = ["python3", "-c", _OFFLINE, *command]
        process = subprocess.Popen(
            [*namespaces, "sh", "-ec", _ENTER, "sh", str(self.root), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"]},
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return process.returncode, printed

    def succeed(
        self, script: str, *, user: str = "root", environment: Mapping[str, str] | None = None, offline: bool = False
    ) -> str:
        """Return what a script printed that has to end with 0, without a traceback."""
        status, printed = self.run(script, user=user, environment=environment, offline=offline)
        assert status == 0, printed
        assert "Traceback" not in printed, printed
        return printed

    def fail(self, script: str, *, user: str = "root", environment: Mapping[str, str] | None = None, offline: bool = False) -> str:
        """Return what a script printed that has to fail, without a traceback."""
        status, printed = self.run(script, user=user, environment=environment, offline=offline)
        assert status != 0, printed
        assert "Traceback" not in printed, printed
        return printed
