from __future__ import annotations

import socket

import pytest

from unikernel.errors import UnikernelError
from unikernel.image.spec import Port
from unikernel.run.ports import check_ports, forwarded_ports


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_in_use_is_named_with_another_to_take(kind: socket.SocketKind) -> None:
    protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        number = listener.getsockname()[1]
        with pytest.raises(UnikernelError, match=rf"Port {number}/{protocol} of 127\.0\.0\.1 cannot be forwarded.*-p \d+:80"):
            check_ports([Port(80, number, protocol)], "127.0.0.1")
        # The other protocol's ports are others.
        check_ports([Port(80, number, "udp" if protocol == "tcp" else "tcp")], "127.0.0.1")
    check_ports([Port(80, number, protocol)], "127.0.0.1")


def test_a_port_cannot_be_forwarded_twice() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
    check_ports([Port(80, number), Port(80, number, "udp")], "127.0.0.1")
    with pytest.raises(UnikernelError, match=f"Port {number}/tcp of 127.0.0.1 is to be forwarded twice"):
        check_ports([Port(80, number), Port(81, number)], "127.0.0.1")


def test_a_port_that_the_system_picks_is_always_free() -> None:
    check_ports([Port(80, 0), Port(81, 0)], "127.0.0.1")


def test_where_ports_are_forwarded_from_is_what_qemu_says() -> None:
    said = (
        "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
        "  TCP[ESTABLISHED]   22       127.0.0.1 46751       10.0.2.15  8080     0     0\r\n"
        "  TCP[HOST_FORWARD]  13       127.0.0.1 40193       10.0.2.15  8080     0     0\r\n"
        "  UDP[HOST_FORWARD]  14       127.0.0.1 50193       10.0.2.15    53     0     0\r\n"
    )
    assert forwarded_ports(said) == {(8080, "tcp"): 40193, (53, "udp"): 50193}
