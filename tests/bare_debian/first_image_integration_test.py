"""The first ten minutes: the README's first command on a bare Debian, up to an image that boots and is verified."""

from __future__ import annotations

import re

from bare_debian.newcomer import Newcomer, readme_command
from machine import Machine, boot, free_port, http_get


def test_the_first_command_ends_with_what_to_do_next(packaged: str) -> None:
    closing = packaged.strip().splitlines()[-1]
    match = re.search(
        r"(\d+) images are in dist/, signed by the development key [0-9a-f]{64}\. "
        r"Next: \./pants run (\S+) \(boots it\), \./pants unikernel-verify ::",
        closing,
    )
    assert match is not None, closing
    entries = packaged.count("SHA-256 ")
    assert int(match[1]) == entries, packaged
    assert f"Wrote dist/{match[2].replace('/', '.').replace(':', '/')}.elf" in packaged
    # An entry per target, not one per file.
    for name in (".json", ".spdx", ".sigstore", ".intoto"):
        assert not re.search(rf"Wrote \S*{re.escape(name)}", packaged), name


def test_what_lacks_a_toolchain_is_named_with_the_fix(packaged: str) -> None:
    [line] = [line for line in packaged.splitlines() if "Not packaged: src/services/sieve:unikernel" in line]
    assert "riscv64-unknown-elf-gcc" in line and "gcc-riscv64-unknown-elf" in line


def test_the_images_are_verified(packaged: str, newcomer: Newcomer) -> None:
    assert "dist/src.services.greeter/unikernel.elf: verified" in newcomer.succeed("./pants unikernel-verify ::")


def test_the_images_boot_and_answer(packaged: str, newcomer: Newcomer) -> None:
    """They boot on the host: the bare machine has no QEMU, since packaging needs none."""
    key = newcomer.development_key
    status, console = boot(newcomer.dist / "src.services.arguments/unikernel.elf", arguments=["Ada"], key=key)
    assert "Ada" in console, console
    assert status == 0, console
    port = free_port()
    with Machine(newcomer.dist / "src.services.greeter/unikernel.elf", options=[f"--port={port}:8080"], key=key):
        assert "Ada" in http_get(port, "/greet?name=Ada")[1]


def test_the_first_use_of_more_says_what_is_missing(packaged: str, newcomer: Newcomer) -> None:
    printed = newcomer.fail("./pants run src/services/arguments:unikernel")
    assert re.search(r"qemu-system-x86_64.*apt-get install qemu-system-x86", printed), printed


def test_a_second_time_without_a_network(packaged: str, newcomer: Newcomer) -> None:
    again = newcomer.succeed(readme_command(), offline=True)
    assert "bootstrap: ready." in again
    assert packaged.strip().splitlines()[-1].partition("] ")[2] in again
    # It looks at the machine anew, and makes nothing again.
    assert not re.search("Starting: (Build|Compile|Configure|Install|Lay|Link)", again), again
