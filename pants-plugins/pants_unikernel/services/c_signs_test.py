from __future__ import annotations

import pytest

from pants_unikernel.services.c_signs import c_signs


def _what(source: str) -> list[str]:
    return [sign.what for sign in c_signs(source.encode())]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("int main(void) { if (listen(fd, 1) < 0) return 1; }", "listen()"),
        ("int f(int s) { return listen(s, f(1, 2)); }", "listen()"),
        ("void f() { if (::listen(fd, SOMAXCONN)) throw 1; }", "listen()"),
        ("char c = '\"'; int f(void) { listen(a, b); }", "listen()"),
        ("int x = 1'000; void f() { listen(a, 1'0); }", "listen()"),
        ("void f(void) { bind(s, a, n); recvfrom(s, b, n, 0, a, &l); }", "bind() and recvfrom()"),
        ("void f(void) { MHD_start_daemon(0, 8080, 0); }", "MHD_start_daemon()"),
        ("boost::asio::ip::tcp::acceptor acceptor(io, endpoint);", "asio's acceptor"),
        ("grpc::ServerBuilder builder;", "grpc::ServerBuilder"),
    ],
)
def test_code_that_serves(source: str, what: str) -> None:
    assert _what(source) == [what]


@pytest.mark.parametrize(
    "source",
    [
        "/* listen(a, b) */ // listen(a, b)\n// as \\\nlisten(a, b)\nint main(void) { return 0; }",
        'void f(void) { puts("listen(a, b) \\" listen(c, d)"); }',
        'auto text = R"x( listen(a, b) )x";',
        "int listen(int fd, int backlog);",
        "static void listen(struct a *a, int b) { }",
        "void f() { socket.listen(a, b); socket->listen(a, b); Socket::listen(a, b); auto g = std::bind(f, 1, 2); recvfrom(0,0,0,0,0,0); }",
        "void f(void) { listen(events); }",
        # A client may be bound to an address.
        "void f(void) { bind(s, a, n); connect(s, a, n); }",
        "int listen;",
        "listen(a, b",
    ],
)
def test_code_that_does_not(source: str) -> None:
    assert _what(source) == []
