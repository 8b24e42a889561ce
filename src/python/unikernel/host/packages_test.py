from __future__ import annotations

from pathlib import Path

import pytest

from unikernel.host.packages import Package, _names, _os_release, _owners, packages_of


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/usr/lib/x86_64-linux-gnu/libz.so.1", ["/lib/x86_64-linux-gnu/libz.so.1", "/usr/lib/x86_64-linux-gnu/libz.so.1"]),
        ("/lib64/ld-linux-x86-64.so.2", ["/lib64/ld-linux-x86-64.so.2", "/usr/lib64/ld-linux-x86-64.so.2"]),
        ("/usr/local/lib/libown.so", ["/usr/local/lib/libown.so"]),
        ("/opt/lib/libown.so", ["/opt/lib/libown.so"]),
        ("/usr/libexec/tool", ["/usr/libexec/tool"]),
    ],
)
def test_a_file_may_be_listed_with_usr_or_without(path: str, names: list[str]) -> None:
    assert _names(path) == names


def test_who_brought_a_file_is_read_from_dpkg() -> None:
    printed = (
        "libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6\n"
        "one, two:amd64: /usr/share/doc\n"
        "diversion by dash from: /bin/sh\n"
        "diversion by dash to: /bin/sh.distrib\n"
        "other: /not/asked/for\n"
        "nonsense\n"
    )
    asked = {name: name for name in ("/lib/x86_64-linux-gnu/libc.so.6", "/usr/share/doc", "/bin/sh")}
    assert _owners(printed, asked) == {"/lib/x86_64-linux-gnu/libc.so.6": "libc6:amd64", "/usr/share/doc": "one"}


def test_a_package_has_a_purl() -> None:
    package = Package("libstdc++6", "1:12.2.0-14+deb12u1", "amd64", "gcc-12", "12.2.0-14", "debian", "12")
    assert package.purl == "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"


def test_the_distribution_is_read_from_os_release(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text("# a comment = x\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='Debian = good'\n\n")
    assert _os_release(path) == {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian = good"}
    assert _os_release(tmp_path / "none") == {}


def test_without_dpkg_there_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages_of(["/usr/lib/x86_64-linux-gnu/libc.so.6"]) == {}
