from __future__ import annotations

import pytest

from pants_unikernel.services.go_signs import go_imports, go_signs, module_path


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ('package main\nimport "net/http"\nfunc main() { http.ListenAndServe(":80", nil) }\n', "net/http.ListenAndServe"),
        ('package main\nimport (\n\t"fmt"\n\tweb "net/http"\n)\nvar s = &web.Server{Addr: ":80"}\n', "net/http.Server"),
        ('package main\nimport . "net"\nfunc main() { Listen("tcp", ":80") }\n', "net.Listen"),
        ('package main\nimport "github.com/labstack/echo/v4"\nvar e = echo.New()\n', "github.com/labstack/echo.New"),
        ('package main\nimport "google.golang.org/grpc"\nvar s = grpc.NewServer()\n', "google.golang.org/grpc.NewServer"),
    ],
)
def test_code_that_serves(source: str, what: str) -> None:
    assert [sign.what for sign in go_signs(source.encode())] == [what]


@pytest.mark.parametrize(
    "source",
    [
        'package main\nimport "net/http"\nfunc main() { http.Get("http://a") }\n',
        'package main\n// import "net/http"\n/* http.ListenAndServe() */\nfunc main() { print("http.ListenAndServe") }\n',
        'package main\nimport "net/http"\nvar s = "http.ListenAndServe" + `http.Server`\n',
        'package main\nimport _ "net"\nfunc main() { other.net.Listen() }\n',
        'package main\nimport "example.org/own/http"\nfunc main() { http.ListenAndServe() }\n',
    ],
)
def test_code_that_does_not(source: str) -> None:
    assert go_signs(source.encode()) == ()


def test_imports_and_the_path_of_a_module() -> None:
    source = b'package main\nimport (\n\t"a/b" // why\n\tc "d/e"\n)\nimport `f`\n'
    assert go_imports(source) == {"a/b": "", "d/e": "c", "f": ""}
    assert module_path(b"// comment\nmodule example.org/own // why\n\ngo 1.21\n") == "example.org/own"
    assert module_path(b"") == ""
