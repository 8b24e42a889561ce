"""Looks at what an image gives to a Python program, from the inside, and prints it as JSON."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from datetime import datetime, timezone
from zoneinfo import ZoneInfo


def timed_lookup(name: str) -> tuple[str | None, float]:
    start = time.monotonic()
    try:
        address = str(socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        address = None
    return address, time.monotonic() - start


def in_a_thread() -> int:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(threading.get_ident()))
    thread.start()
    thread.join()
    return len(results)


def main() -> None:
    unknown, seconds = timed_lookup("no-such-host.invalid")
    child = subprocess.run([sys.executable, "-c", "print(6 * 7)"], stdout=subprocess.PIPE, check=True)
    with tempfile.NamedTemporaryFile() as scratch:
        connection = sqlite3.connect(scratch.name)
        connection.execute("create table t (x)")
        connection.execute("insert into t values (7)")
        (row,) = connection.execute("select x from t").fetchone()
    with open("/etc/settings/settings.txt") as settings:
        text = settings.read().strip()
    document = {
        "arguments": sys.argv[1:],
        "localhost": timed_lookup("localhost")[0],
        "unknown_host": unknown,
        "unknown_host_seconds": seconds,
        "certificates": len(ssl.create_default_context().get_ca_certs()),
        "random_bytes": len(os.urandom(16)),
        "child": int(child.stdout),
        "sqlite": row,
        "threads": in_a_thread(),
        "zlib": len(zlib.decompress(zlib.compress(b"x" * 1000))),
        "paris": datetime(2024, 7, 1, 12, tzinfo=timezone.utc).astimezone(ZoneInfo("Europe/Paris")).hour,
        "local": time.localtime(0).tm_hour,
        "settings": text,
        "settings_mode": oct(os.stat("/etc/settings/settings.txt").st_mode & 0o777),
        "hostname": socket.gethostname(),
        "directory": os.getcwd(),
        "memory_kib": int(open("/proc/meminfo").readline().split()[1]),
    }
    print("PROBE " + json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
