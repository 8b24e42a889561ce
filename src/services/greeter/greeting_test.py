from greeter.greeting import greet


def test_greets_by_name_and_escapes_it() -> None:
    status, _, body = greet("/greet?name=%3Cb%3EAda%3C/b%3E")
    assert status == 200
    assert b"Hello, &lt;b&gt;Ada&lt;/b&gt;!" in body


def test_knows_only_its_own_paths() -> None:
    assert greet("/other")[0] == 404
