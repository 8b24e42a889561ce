from __future__ import annotations

import os
import socket

from unikernel.run.channels import Channels


def test_what_was_sent_before_is_there_before_what_follows_on_another_channel() -> None:
    taken: list[tuple[str, bytes]] = []
    with Channels(["stdout", "console"], lambda name, data: taken.append((name, data))) as channels:
        theirs = {name: socket.socket(fileno=os.dup(descriptor)) for name, descriptor in channels.descriptors.items()}
        reading, writing = os.pipe()
        theirs["stdout"].sendall(b"a" * 100_000)
        theirs["console"].sendall(b"ended")
        os.write(writing, b"said")
        os.close(writing)
        for end in theirs.values():
            end.close()
        with os.fdopen(reading, "rb") as pipe:
            channels.start({"vmm": pipe})
            channels.join()
    assert b"".join(data for name, data in taken if name == "stdout") == b"a" * 100_000
    assert [name for name, _ in taken][-2:] == ["console", "vmm"]


def test_what_is_sent_arrives_and_after_the_end_is_lost() -> None:
    with Channels(["console"], lambda name, data: None) as channels:
        theirs = socket.socket(fileno=os.dup(channels.descriptors["console"]))
        channels.start({})
        channels.send("console", b"\x03")
        assert theirs.recv(10) == b"\x03"
        theirs.close()
        channels.join()
        channels.send("console", b"\x03")
