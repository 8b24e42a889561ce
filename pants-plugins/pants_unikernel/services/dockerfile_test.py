from __future__ import annotations

import pytest

from pants_unikernel.services.dockerfile import parse_dockerfile


def test_ports_and_bases_of_the_final_stage() -> None:
    text = """\
# syntax=docker/dockerfile:1
ARG VERSION=1.2 BASE
ARG PORT="8080"
FROM --platform=linux/amd64 golang:${VERSION} AS Build
EXPOSE 1
COPY . /src
from debian:${RELEASE:-12} as middle
EXPOSE $PORT \\
  # why
  9090/udp
FROM middle
COPY --from=build /src/app /
COPY --chown=1:1 src.py/app.pex other
COPY ["a b", "c", "/"]
ENTRYPOINT ["/app"]
"""
    read = parse_dockerfile(text, {"VERSION": "1.3"})
    assert read.bases == ("golang:1.3", "debian:12")
    assert (read.base, read.ports, read.command) == ("debian:12", ("8080", "9090/udp"), ("/app",))
    assert read.copied == (".", "src.py/app.pex", "a b", "c")
    assert parse_dockerfile(text, {}, "build").ports == ("1",)
    # A stage that has the name of what it starts from.
    assert parse_dockerfile("FROM nginx AS nginx\nEXPOSE 80\n", {}).bases == ("nginx",)


def test_without_a_port_there_is_none() -> None:
    read = parse_dockerfile("FROM scratch\n# EXPOSE 80\nRUN echo EXPOSE 80\n", {})
    assert (read.ports, read.starts, read.copied) == ((), "", ())
    assert parse_dockerfile("", {}).bases == ()


@pytest.mark.parametrize(
    ("instructions", "starts"),
    [
        ('CMD ["gunicorn", "app:app"]', "gunicorn"),
        ("CMD exec gunicorn app:app", "gunicorn"),
        ('CMD ["nginx", "-g", "daemon off;"]', "nginx"),
        ('ENTRYPOINT ["/usr/sbin/httpd"]\nCMD ["-D"]', "httpd"),
        ('CMD ["app:app"]\nENTRYPOINT ["uvicorn"]', "uvicorn"),
        ('CMD ["python3", "-m", "http.server"]', "http.server"),
        ("CMD python manage.py runserver", "manage.py runserver"),
        ("CMD flask run", "flask"),
        ("CMD flask shell", ""),
        ("CMD python manage.py migrate", ""),
        ('CMD ["sh"]', ""),
        ('CMD ["python", "-m"]', ""),
        ("CMD", ""),
    ],
)
def test_the_server_that_starts(instructions: str, starts: str) -> None:
    assert parse_dockerfile(f"FROM a\n{instructions}\n", {}).starts == starts
