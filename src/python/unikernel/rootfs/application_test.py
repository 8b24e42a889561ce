from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from unikernel.digests import file_sha256
from unikernel.errors import UnikernelError
from unikernel.rootfs.application import Application, build_application, stripped_program
from unikernel.rootfs.cpio import CpioEntry, read_cpio_bytes
from unikernel.sbom.component import files_digest
from unikernel.testing.programs import for_another_machine, linked_program, program, shared_library, tiny_program
from unikernel.testing.python import SERIES, linked_runtime, pex_info, wheel, write_tree, write_zip


@pytest.fixture()
def root(tmp_path: Path) -> Path:
    """The directory that the artifacts are in."""
    path = tmp_path / "dist"
    path.mkdir()
    return path


def _build(root: Path, *artifacts: str, executable: str | None = None) -> Application:
    scratch = root.parent / "scratch"
    scratch.mkdir()
    return build_application(root, artifacts, executable=executable, runtime=None, machine="x86_64", scratch=scratch)


def _build_python(root: Path, pex: str, executable: str | None = None) -> Application:
    scratch = root.parent / "scratch"
    scratch.mkdir()
    runtime = linked_runtime(root.parent / "runtime")
    return build_application(root, [pex], executable=executable, runtime=runtime, machine="x86_64", scratch=scratch)


def _entries(application: Application, tmp_path: Path) -> dict[str, tuple[CpioEntry, bytes]]:
    application.layer.write(tmp_path / "application.cpio", application.index)
    return {f"/{entry.path}": (entry, content) for entry, content in read_cpio_bytes((tmp_path / "application.cpio").read_bytes())}


def _tar(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _member(name: str, mode: int = 0o644, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.linkname = mode, kind, target
    return info


# --- native programs ----------------------------------------------------------------------------------------------


def test_a_static_program_goes_to_app(root: Path, tmp_path: Path) -> None:
    tiny_program(root / "sub/hello")
    (root / "sub/hello").chmod(0o644)
    application = _build(root, "sub/hello")
    assert (application.start.program, application.start.arguments) == ("/app/hello", ["/app/hello"])
    assert application.distributions is None
    assert (application.index.needs, application.index.programs) == ({}, {})
    [component] = application.index.components
    assert (component.name, component.sha256) == ("hello", file_sha256(root / "sub/hello"))
    assert _entries(application, tmp_path)["/app/hello"][0].mode == stat.S_IFREG | 0o755


def test_a_program_is_known_as_it_was_before_it_was_stripped(root: Path, tmp_path: Path) -> None:
    whole = program(root / "hello")
    application = build_application(
        root, ["hello"], executable=None, runtime=None, machine="x86_64", strip="strip", scratch=tmp_path
    )
    (stripped,) = stripped_program(root, ["hello"]).items()
    assert stripped == (application.start.program, whole)
    assert len(_entries(application, tmp_path)["/app/hello"][1]) < whole.stat().st_size
    # What has more than a program in it is laid out as it is.
    (root / "text").write_text("text")
    write_zip(root / "a.pex", {"PEX-INFO": "{}"})
    assert [stripped_program(root, artifacts) for artifacts in (["hello", "text"], ["text"], ["a.pex"], ["."])] == [{}] * 4


def test_a_dynamic_program_says_what_it_needs(root: Path) -> None:
    program(root / "hello")
    index = _build(root, "hello").index
    assert index.needs == {"libc.so.6": "/app/hello"}
    assert index.programs == {"/lib64/ld-linux-x86-64.so.2": "/app/hello"}


def test_a_program_for_another_machine_is_refused(root: Path, tmp_path: Path) -> None:
    for_another_machine(tiny_program(tmp_path / "tiny"), root / "hello")
    with pytest.raises(UnikernelError, match="hello is compiled for aarch64"):
        _build(root, "hello")


def test_a_shared_library_is_no_program(root: Path) -> None:
    shared_library(root / "liba.so", "a")
    with pytest.raises(UnikernelError, match="liba.so is an ELF shared library, not a program"):
        _build(root, "liba.so")


def test_an_executable_is_not_named_for_one_program(root: Path) -> None:
    tiny_program(root / "hello")
    with pytest.raises(UnikernelError, match="leave `executable` out"):
        _build(root, "hello", executable="hello")


@pytest.mark.parametrize("content", [b"", b"hello", b"#!/bin/sh\n"])
def test_a_file_that_is_nothing_bootable_is_refused(root: Path, content: bytes) -> None:
    (root / "thing").write_bytes(content)
    with pytest.raises(UnikernelError, match="thing is nothing that can be booted"):
        _build(root, "thing")


def test_an_artifact_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(UnikernelError, match="artifact nothing is not there"):
        _build(root, "nothing")


# --- archives and directories -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tar_archive_is_laid_out_from_the_root_directory(root: Path, tmp_path: Path, mode: str) -> None:
    tiny = tiny_program(tmp_path / "tiny").read_bytes()
    members = [
        (_member("./", 0o700, tarfile.DIRTYPE), b""),
        (_member("./bin/server", 0o755), tiny),
        (_member("opt/set", 0o4750), b"s"),
        (_member("opt/private", 0o711, tarfile.DIRTYPE), b""),
        (_member("opt/alias", 0o777, tarfile.SYMTYPE, "../bin/server"), b""),
        (_member("opt/first", 0o600), b"linked"),
        (_member("opt/z", 0o600, tarfile.LNKTYPE, "opt/first"), b""),
        (_member("a-link-to-a-link", 0o600, tarfile.LNKTYPE, "opt/z"), b""),
        (_member("link-to-symlink", 0o777, tarfile.LNKTYPE, "opt/alias"), b""),
        (_member("twice", 0o644), b"earlier"),
        (_member("twice", 0o600), b"later"),
    ]
    device = _member("dev/null", 0o666, tarfile.CHRTYPE)
    device.devmajor, device.devminor = 1, 3
    _tar(root / "app.tar", [*members, (device, b"")], mode)
    entries = _entries(_build(root, "app.tar", executable="bin/server"), tmp_path)
    assert {path: (entry.mode, content) for path, (entry, content) in entries.items() if path != "/bin/server"} == {
        "/a-link-to-a-link": (stat.S_IFREG | 0o600, b"linked"),
        "/bin": (stat.S_IFDIR | 0o755, b""),
        "/dev": (stat.S_IFDIR | 0o755, b""),
        "/dev/null": (stat.S_IFCHR | 0o666, b""),
        "/link-to-symlink": (stat.S_IFLNK | 0o777, b"../bin/server"),
        "/opt": (stat.S_IFDIR | 0o755, b""),
        "/opt/alias": (stat.S_IFLNK | 0o777, b"../bin/server"),
        "/opt/first": (stat.S_IFREG | 0o600, b"linked"),
        "/opt/private": (stat.S_IFDIR | 0o711, b""),
        "/opt/set": (stat.S_IFREG | 0o4750, b"s"),
        "/opt/z": (stat.S_IFREG | 0o600, b"linked"),
        "/twice": (stat.S_IFREG | 0o600, b"later"),
    }
    assert entries["/bin/server"] == (CpioEntry("bin/server", stat.S_IFREG | 0o755, len(tiny)), tiny)
    assert entries["/dev/null"][0].device == (1, 3)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archive_members_that_lead_out_are_refused(root: Path, name: str, kind: str) -> None:
    if kind == "tar":
        _tar(root / "app", [(_member(name), b"")])
    else:
        write_zip(root / "app", {name: ""})
    with pytest.raises(UnikernelError, match="evil' leads out of the root file system"):
        _build(root, "app", executable="a")


@pytest.mark.parametrize("target", ["missing", "self", "directory"])
def test_hard_links_to_nothing_are_refused(root: Path, target: str) -> None:
    _tar(
        root / "a.tar",
        [(_member("directory", 0o755, tarfile.DIRTYPE), b""), (_member("self", 0o644, tarfile.LNKTYPE, target), b"")],
    )
    with pytest.raises(UnikernelError, match="/self is a hard link to"):
        _build(root, "a.tar", executable="self")


def test_a_fifo_in_an_archive_is_refused(root: Path) -> None:
    _tar(root / "a.tar", [(_member("pipe", 0o644, tarfile.FIFOTYPE), b"")])
    with pytest.raises(UnikernelError, match="/pipe is neither a file, a directory nor a link"):
        _build(root, "a.tar", executable="pipe")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_archive_is_refused(root: Path, mode: str) -> None:
    path = root / "a.tar"
    _tar(path, [(_member("first", 0o644), os.urandom(3000)), (_member("second", 0o644), os.urandom(30000))], mode)
    path.write_bytes(path.read_bytes()[:12000])
    with pytest.raises(UnikernelError, match=r"The archive a\.tar cannot be unpacked"):
        _build(root, "a.tar", executable="first")


def test_a_damaged_zip_is_refused(root: Path) -> None:
    path = write_zip(root / "a.zip", {"file": "content"})
    path.write_bytes(path.read_bytes().replace(b"content", b"c0ntent"))
    with pytest.raises(UnikernelError, match=r"The archive a\.zip cannot be unpacked"):
        _build(root, "a.zip", executable="file")


def test_a_zip_archive_with_modes_links_and_duplicates(root: Path, tmp_path: Path) -> None:
    tiny = tiny_program(tmp_path / "tiny")
    with zipfile.ZipFile(root / "app.zip", "w") as archive:
        archive.write(tiny, "bin/server")
        for name, mode, content in (
            ("./etc/secret", stat.S_IFREG | 0o600, "s"),
            ("alias", stat.S_IFLNK | 0o777, "bin/server"),
            ("etc/", stat.S_IFDIR | 0o755, ""),
        ):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
        with pytest.warns(UserWarning):
            archive.writestr("./etc/secret", "later")
    entries = _entries(_build(root, "app.zip", executable="alias"), tmp_path)
    assert {path: entry.mode for path, (entry, _) in entries.items()} == {
        "/alias": stat.S_IFLNK | 0o777,
        "/bin": stat.S_IFDIR | 0o755,
        "/bin/server": stat.S_IFREG | 0o755,
        "/etc": stat.S_IFDIR | 0o755,
        "/etc/secret": stat.S_IFREG | 0o600,
    }
    assert entries["/etc/secret"][1] == b"later"


def test_in_a_zip_archive_without_modes_what_can_run_may(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(root / "app.zip", "w") as archive:
        for name, content in (
            ("elf", tiny_program(tmp_path / "t").read_bytes()),
            ("script", b"#!/elf\n"),
            ("data", b"#"),
        ):
            info = zipfile.ZipInfo(name)
            # As MS-DOS has them: "archive". zipfile would replace 0 by a mode.
            info.create_system, info.external_attr = 0, 0x20
            archive.writestr(info, content)
    entries = _entries(_build(root, "app.zip", executable="elf"), tmp_path)
    assert {path: stat.S_IMODE(entry.mode) for path, (entry, _) in entries.items()} == {
        "/data": 0o644,
        "/elf": 0o755,
        "/script": 0o755,
    }


def test_what_is_to_start_can_be_run_whatever_the_archive_says(root: Path, tmp_path: Path) -> None:
    # zipfile.writestr gives files the mode 0600.
    with zipfile.ZipFile(root / "app.zip", "w") as archive:
        archive.writestr("elf", tiny_program(tmp_path / "t").read_bytes())
    assert _entries(_build(root, "app.zip", executable="elf"), tmp_path)["/elf"][0].mode == stat.S_IFREG | 0o711


def test_a_directory_is_laid_out_from_the_root_directory(root: Path, tmp_path: Path) -> None:
    library = shared_library(root / "tree/opt/lib/liba.so.1", "a")
    (root / "tree/opt/lib/liba.so").symlink_to("liba.so.1")
    linked_program(root / "tree/opt/bin/server", [library], "-Wl,-rpath,$ORIGIN/../lib")
    (root / "tree/opt/empty").mkdir()
    application = _build(root, "tree", executable="/opt/bin/server")
    assert application.start.program == "/opt/bin/server"
    assert application.index.needs == {"libc.so.6": "/opt/bin/server"}
    entries = _entries(application, tmp_path)
    assert entries["/opt/lib/liba.so"][1] == b"liba.so.1"
    assert "/opt/empty" in entries


def test_several_artifacts_keep_their_paths(root: Path, tmp_path: Path) -> None:
    tiny_program(root / "bin/server")
    write_tree(root, {"etc/server.conf": "x", "share/data/a": "a"})
    application = _build(root, "bin/server", "etc/server.conf", "share", executable="bin/server")
    names = ("bin/server", "etc/server.conf", "share/data/a")
    assert application.index.components[0].sha256 == files_digest({name: file_sha256(root / name) for name in names})
    entries = _entries(application, tmp_path)
    assert {"/bin/server", "/etc/server.conf", "/data/a"} <= set(entries)


def test_without_executable_the_programs_are_listed(root: Path, tmp_path: Path) -> None:
    tiny_program(root / "tree/bin/server")
    shared_library(root / "tree/lib/liba.so", "a")
    program(root / "tree/lib/a.o", "-c")
    (root / "tree/lib/broken").write_bytes(b"\x7fELF")
    write_zip(root / "tree/app.pex", {"PEX-INFO": "{}"})
    with pytest.raises(UnikernelError) as caught:
        _build(root, "tree")
    assert str(caught.value).endswith("say by `executable` which one starts. It has these programs: /app.pex, /bin/server.")


def test_an_executable_that_is_not_there_is_named_with_what_is(root: Path) -> None:
    tiny_program(root / "tree/bin/server")
    (root / "tree/bin/loop").symlink_to("loop")
    for executable in ("bin/other", "bin", "bin/loop"):
        with pytest.raises(UnikernelError, match=f"`executable` names '{executable}'.*these programs: /bin/server"):
            build_application(root, ["tree"], executable=executable, runtime=None, machine="x86_64", scratch=root)


def test_broken_files_elsewhere_do_not_matter(root: Path) -> None:
    tiny_program(root / "tree/bin/server")
    (root / "tree/broken").write_bytes(b"\x7fELF and nothing")
    assert _build(root, "tree", executable="bin/server").start.program == "/bin/server"


def test_a_linked_program_is_started_by_the_name_of_the_link(root: Path) -> None:
    # busybox and its like look at argv[0].
    program(root / "tree/usr/bin/box")
    (root / "tree/usr/bin/server").symlink_to("box")
    (root / "tree/bin").symlink_to("usr/bin")
    application = _build(root, "tree", executable="bin/server")
    assert (application.start.program, application.start.arguments) == ("/bin/server", ["/bin/server"])
    assert application.index.needs == {"libc.so.6": "/usr/bin/box"}


def test_a_script_whose_interpreter_is_in_the_application(root: Path, tmp_path: Path) -> None:
    program(root / "tree/usr/bin/busybox")
    (root / "tree/usr/bin/busybox").chmod(0o644)
    (root / "tree/usr/bin/sh").symlink_to("busybox")
    (root / "tree/bin").symlink_to("usr/bin")
    write_tree(root, {"tree/start.sh": "#! /bin/sh -e\nexec true\n"})
    application = _build(root, "tree", executable="start.sh")
    assert application.start.arguments == ["/start.sh"]
    assert application.index.needs == {"libc.so.6": "/usr/bin/busybox"}
    entries = _entries(application, tmp_path)
    assert entries["/start.sh"][0].mode == entries["/usr/bin/busybox"][0].mode == stat.S_IFREG | 0o755


@pytest.mark.parametrize(
    ("line", "reason"), [("#!/bin/sh", "script for /bin/sh"), ("#!", "no interpreter"), ("echo", "neither an ELF")]
)
def test_a_script_that_nothing_can_run_is_refused(root: Path, line: str, reason: str) -> None:
    write_tree(root, {"tree/start": line + "\n"})
    with pytest.raises(UnikernelError, match=reason):
        _build(root, "tree", executable="start")


def test_a_foreign_interpreter_of_a_script_is_refused(root: Path, tmp_path: Path) -> None:
    for_another_machine(tiny_program(tmp_path / "tiny"), root / "tree/bin/sh")
    write_tree(root, {"tree/start": "#!/bin/sh\n"})
    with pytest.raises(UnikernelError, match="/bin/sh is compiled for aarch64"):
        _build(root, "tree", executable="start")


# --- Python -------------------------------------------------------------------------------------------------------


def _run(application: Application, tmp_path: Path) -> str:
    """What the application prints when it is started, from its layer unpacked, with its distributions beside it."""
    image = tmp_path / "image"
    for path, (entry, content) in _entries(application, tmp_path).items():
        target = image / path.lstrip("/")
        if stat.S_ISDIR(entry.mode):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.write_bytes(content)
    assert application.distributions is not None
    distributions = sorted(map(str, application.distributions.directory.iterdir()))
    arguments = [argument.replace("/app/", f"{image}/app/") for argument in application.start.arguments[1:]]
    environment = {**application.start.environment, "PYTHONPATH": ":".join(distributions)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, check=True, encoding="utf-8"
    ).stdout


_GREETING = (
    "import sys\nclass Greeter:\n    @staticmethod\n    def greet():\n        print(sys.argv, __name__)\nmain = Greeter.greet\n"
)


@pytest.mark.parametrize(
    ("settings", "printed"),
    [
        ({"entry_point": "app.greet:main"}, "['/app/hello', '--port', '80'] app.greet\n"),
        ({"entry_point": "app.greet:Greeter.greet"}, "['/app/hello', '--port', '80'] app.greet\n"),
        ({"script": "greet"}, "['/app/hello', '--port', '80'] app.greet\n"),
    ],
)
def test_functions_as_entry_points(root: Path, tmp_path: Path, settings: dict[str, str], printed: str) -> None:
    entry_points = "[gui_scripts]\nother = a:b\n[console_scripts]\ngreet = app.greet:main [extra]\nGREET = no:no\n"
    files = {
        "PEX-INFO": pex_info(inject_args=["--port", "80"], inject_env={"X": "1"}, **settings),
        "app/greet.py": _GREETING,
        **wheel("scripts", {"scripts-1.0.dist-info/entry_points.txt": entry_points}),
    }
    write_zip(root / "hello.pex", files)
    application = _build_python(root, "hello.pex")
    assert application.start.program == f"/usr/bin/python{SERIES}"
    assert application.start.environment == {"LANG": "C.UTF-8", "PYTHONFAULTHANDLER": "1", "X": "1"}
    assert _run(application, tmp_path) == printed


def test_modules_and_packages_as_entry_points(root: Path, tmp_path: Path) -> None:
    source = "import sys, app.other\nprint(len(sys.argv), __name__, __package__)\n"
    write_tree(root / "hello", {"PEX-INFO": pex_info(entry_point="app"), "app/__main__.py": source, "app/other.py": ""})
    assert _run(_build_python(root, "hello"), tmp_path) == "1 __main__ app\n"


def test_a_console_script_of_a_wheel_that_is_a_zip(root: Path, tmp_path: Path) -> None:
    write_tree(root / "a.pex", {"PEX-INFO": pex_info(script="greet")})
    write_zip(
        root / "a.pex/.deps/greeter-1-py3-none-any.whl",
        {
            "greeter.py": "def main(): print('hi')",
            "greeter-1.dist-info/entry_points.txt": "[console_scripts]\ngreet=greeter:main",
        },
    )
    assert _run(_build_python(root, "a.pex"), tmp_path) == "hi\n"


def test_worker_processes_do_not_start_the_application_again(root: Path, tmp_path: Path) -> None:
    source = """
import multiprocessing
def work(number):
    return number + 1
def main():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, [1, 2]))
"""
    write_tree(root / "a.pex", {"PEX-INFO": pex_info(entry_point="job:main"), "job.py": source})
    assert _run(_build_python(root, "a.pex"), tmp_path) == "[2, 3]\n"


@pytest.mark.parametrize(
    ("settings", "reason"), [({}, "PEX without an entry point"), ({"script": "none"}, "console script 'none'")]
)
def test_a_pex_that_starts_nothing_is_refused(root: Path, settings: dict[str, str], reason: str) -> None:
    write_zip(root / "a.pex", {"PEX-INFO": pex_info(**settings), **wheel("lib", {"lib.py": ""})})
    with pytest.raises(UnikernelError, match=reason):
        _build_python(root, "a.pex")


def test_a_pex_needs_an_interpreter_and_no_executable(root: Path) -> None:
    write_zip(root / "a.pex", {"PEX-INFO": pex_info(entry_point="a"), "a.py": ""})
    with pytest.raises(UnikernelError, match="no Python interpreter is known"):
        build_application(root, ["a.pex"], executable=None, runtime=None, machine="x86_64", scratch=root)
    with pytest.raises(UnikernelError, match="leave `executable` out"):
        build_application(root, ["a.pex"], executable="a", runtime=None, machine="x86_64", scratch=root)


def test_a_pex_inside_an_archive(root: Path, tmp_path: Path) -> None:
    write_zip(tmp_path / "x.pex", {"PEX-INFO": pex_info(entry_point="hello"), "hello.py": "print('hello')"})
    with tarfile.open(root / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x.pex", "opt/x.pex")
        archive.addfile(_member("etc/x.conf"))
    application = _build_python(root, "a.tar.gz", executable="opt/x.pex")
    assert _run(application, tmp_path) == "hello\n"
    assert "/etc/x.conf" in application.layer


def test_a_pex_layer_has_bytecode_data_and_what_does_not_compile(root: Path, tmp_path: Path) -> None:
    files = {
        "PEX-INFO": pex_info(entry_point="a"),
        "a.py": "x = {'a', 'b', 'c'}",
        "b/c.py": "print 'two'",
        "b/data.txt": "d",
    }
    write_zip(root / "a.pex", files)
    application = _build_python(root, "a.pex")
    tag = linked_runtime(tmp_path / "again").facts.cache_tag
    entries = _entries(application, tmp_path)
    assert {"/app/a.py", f"/app/__pycache__/a.{tag}.pyc", "/app/b/c.py", "/app/b/data.txt", "/app/__main__.py"} <= set(entries)
    assert f"/app/b/__pycache__/c.{tag}.pyc" not in entries
    (line,) = application.index.facts["uncompiled"]
    assert line.startswith("/app/b/c.py: ")
    # Unchecked hash: PEP 552's flags are 1, so that neither time nor source is looked at.
    pyc = entries[f"/app/__pycache__/a.{tag}.pyc"][1]
    assert int.from_bytes(pyc[4:8], "little") == 1


def test_a_pex_layer_is_the_same_in_two_runs(root: Path, tmp_path: Path) -> None:
    archives = []
    for name in ("one", "two"):
        here = tmp_path / name / "dist"
        here.mkdir(parents=True)
        write_zip(
            here / "a.pex",
            {"PEX-INFO": pex_info(entry_point="a"), "a.py": "x = {'a', 'b', 'c'}; y = 'z' in {'p', 'q'}"},
        )
        application = _build_python(here, "a.pex")
        application.layer.write(tmp_path / f"{name}.cpio", application.index)
        archives.append((tmp_path / f"{name}.cpio").read_bytes())
    assert archives[0] == archives[1]
