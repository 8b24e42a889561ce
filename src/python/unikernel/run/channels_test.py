from __future__ import annotations

import os
import socket

from unikernel.run.channels import Channels


def test_what_was_sent_before_is_there_before_what_follows_on_another_channel() -> None:
    taken: list[tuple[str, bytes]] = []
    with Channels(["stdout"], ["console"], lambda name, data: taken.append((name, data))) as channels:
        stdout, console = map(os.dup, channels.descriptors)
        os.write(stdout, b"a" * 60_000)
        os.write(console, b"ended")
        os.close(stdout)
        os.close(console)
        reading, writing = os.pipe()
        os.write(writing, b"said")
        os.close(writing)
        channels.start("vmm", os.fdopen(reading, "rb"))
        channels.join()
    assert b"".join(data for name, data in taken if name == "stdout") == b"a" * 60_000
    assert [name for name, _ in taken if name != "vmm"][-1] == "console"
    assert ("vmm", b"said") in taken


def test_what_is_sent_arrives_and_after_the_end_is_lost() -> None:
    with Channels([], ["console"], lambda name, data: None) as channels:
        theirs = socket.socket(fileno=os.dup(channels.descriptors[0]))
        reading, writing = os.pipe()
        os.close(writing)
        channels.start("vmm", os.fdopen(reading, "rb"))
        channels.send("console", b"\x03")
        assert theirs.recv(10) == b"\x03"
        theirs.close()
        channels.join()
        channels.send("console", b"\x03")


def test_qemu_has_a_character_device_for_each() -> None:
    with Channels(["stdout"], ["console"], lambda name, data: None) as channels:
        pipe, end = channels.descriptors
        assert channels.options() == [
            "-chardev",
            f"null,id=stdout,logfile=/dev/fd/{pipe},logappend=on",
            "-chardev",
            f"socket,id=console,fd={end}",
        ]
