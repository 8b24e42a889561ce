from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import unikernel
from unikernel import cli
from unikernel.image import manifest as image_manifest
from unikernel.image.manifest_pb2 import Manifest
from unikernel.testing.images import image_with_note
from unikernel.testing.programs import program, tiny_program
from unikernel.testing.signing import make_key

_ROOT = str(Path(unikernel.__file__).parent.parent)


def _unikernel(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unikernel", *arguments]
    environment = {**os.environ, "PYTHONPATH": _ROOT}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment, **settings
    )


def test_an_unsigned_image_is_not_verified(tmp_path: Path) -> None:
    image = image_with_note(tmp_path / "image.elf", image_manifest.encode(Manifest(name="a")))
    (tmp_path / "key.pub").write_text(make_key(tmp_path).public.pem)
    printed = _unikernel("verify", str(image), "--key", str(tmp_path / "key.pub"))
    assert (
        printed.returncode == 1 and "NOT VERIFIED" in printed.stdout and "image.elf.sigstore.json cannot be read" in printed.stdout
    )
    printed = _unikernel("verify", str(image), "--key", str(tmp_path / "key.pub"), "--json")
    assert printed.returncode == 1 and json.loads(printed.stdout)["holds"] is False


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--key", "none.pub"], "The key none.pub cannot be read"),
        (["--key", "key.pub", "--policy", "none.json"], "The policy none.json cannot be read"),
        (["--key", "key.pub", "--policy", "key.pub"], "The policy key.pub is no valid JSON"),
    ],
)
def test_what_verify_cannot_use_is_one_line_and_status_1(options: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(make_key(tmp_path).public.pem)
    printed = _unikernel("verify", "image.elf", *options, cwd=tmp_path)
    assert printed.returncode == 1
    assert printed.stderr.startswith(f"unikernel: {expected}") and printed.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["inspect", "run"])
@pytest.mark.parametrize("kind", ["text", "program", "missing", "directory"])
def test_what_is_no_image_is_one_line_and_status_1(
    command: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "thing"
    if kind == "text":
        path.write_text("text")
    elif kind == "program":
        program(path)
    elif kind == "directory":
        path.mkdir()
    assert cli.main([command, str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("unikernel: ")
    assert str(path) in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-m", "lots"], "'lots' is no amount of memory"),
        (["-p", "http"], "'http' is no port"),
        (["-e", "NOVALUE"], "'NOVALUE' is no variable"),
        (["-e", "=x"], "'=x' is no variable"),
    ],
)
def test_bad_options_of_run_are_named(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "image", *arguments]) == 1
    captured = capsys.readouterr()
    assert part in captured.err
    assert captured.err.count("\n") == 1


def test_inspect_prints_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = image_with_note(tmp_path / "image", image_manifest.encode(Manifest(name="greeter", cpus=2)))
    assert cli.main(["inspect", str(image)]) == 0
    assert "greeter" in capsys.readouterr().out
    assert cli.main(["inspect", "--json", str(image)]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "greeter"


def test_no_command_and_an_unknown_one_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    usages: list[list[str]] = [[], ["fly"]]
    for arguments in usages:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        assert "usage: unikernel" in capsys.readouterr().err


def test_the_package_is_the_command(tmp_path: Path) -> None:
    assert _unikernel("--version").stdout == f"unikernel {unikernel.__version__}\n"
    result = _unikernel("inspect", str(tmp_path / "none"))
    assert (result.returncode, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    image = image_with_note(tmp_path / "image", image_manifest.encode(Manifest(name="x" * 200000)))
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "unikernel", "inspect", str(image)]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": _ROOT})
    os.close(write)
    assert (result.returncode, result.stderr) == (1, b"")


def test_an_application_layer_says_how_it_starts(tmp_path: Path) -> None:
    tiny_program(tmp_path / "dist/hello")
    step = [
        "application-layer",
        "--root",
        "dist",
        "--artifact",
        "hello",
        "--output",
        "a.cpio",
        "--distributions",
        "d.tar",
    ]
    result = _unikernel(*step, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    start = json.loads((tmp_path / "a.json").read_text())["facts"]["start"]
    assert start == {"program": "/app/hello", "arguments": ["/app/hello"], "environment": {}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cpio", "a.json", "dist"], "no scratch is left"


def test_a_step_that_fails_is_one_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    step = ["application-layer", "--root", ".", "--artifact", "text", "--output", "a.cpio", "--distributions", "d.tar"]
    result = _unikernel(*step, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("unikernel: text is nothing that can be booted")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_libraries_are_described_and_captured(tmp_path: Path) -> None:
    needs = {"needs": {"libc.so.6": "/app/a"}, "loaders": {}, "provides": [], "machine": "x86_64"}
    (tmp_path / "needs.json").write_text(json.dumps(needs))
    assert _unikernel("describe-libraries", "--needs", "needs.json", "--output", "d.json", cwd=tmp_path).returncode == 0
    assert _unikernel("libraries-layer", "--description", "d.json", "--output", "l.cpio", cwd=tmp_path).returncode == 0
    assert "libc.so.6" in json.loads((tmp_path / "l.json").read_text())["provides"]


_NOT_UTF_8 = os.fsdecode(b"image\xff")
_PEOPLE_S_COMMANDS = {
    "inspect": ["inspect", "{}"],
    "inspect --json": ["inspect", "--json", "{}"],
    "ls": ["ls", "{}"],
    "extract": ["extract", "{}", "/app"],
    "extract to": ["extract", "image.elf", "/", "-o", "{}"],
    "diff": ["diff", "{}", "{}"],
    "size": ["size", "{}"],
    "size --html": ["size", "image.elf", "--html", "{}"],
    "verify": ["verify", "{}", "--key", "key.pub"],
    "verify --key": ["verify", "image.elf", "--key", "{}"],
    "verify --policy": ["verify", "image.elf", "--key", "key.pub", "--policy", "{}"],
    "run": ["run", "{}"],
    "run --key": ["run", "image.elf", "--key", "{}"],
    "run --vmm": ["run", "image.elf", "--vmm", "{}"],
    "run --debug-file": ["run", "image.elf", "--debug-file", "{}"],
    "test": ["test", "{}", "--expect", "text"],
    "test --expect": ["test", "image.elf", "--expect", "{}"],
    "hypervisor-config": ["hypervisor-config", "{}", "--for", "libvirt"],
    "publish": ["publish", "--layout", "{}", "--to", "127.0.0.1:1/a", "--tag", "1"],
    "publish --output": ["publish", "--layout", "directory", "--to", "127.0.0.1:1/a", "--tag", "1", "--output", "{}"],
    "files-layer": ["files-layer", "--files", "{}", "--root", "directory", "--output", "layer"],
    "capture-python": ["capture-python", "--description", "{}", "--output", "layer"],
    "libraries-layer": ["libraries-layer", "--description", "{}", "--output", "layer"],
    "describe-libraries": ["describe-libraries", "--needs", "{}", "--output", "layer"],
    "check-library-os": ["check-library-os", "mine", "--description", "{}"],
    "describe-kernel-source": ["describe-kernel-source", "--cache", "cache/{}", _NOT_UTF_8],
}


@pytest.fixture()
def bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = image_with_note(tmp_path / "image.elf", image_manifest.encode(Manifest(name="a")))
    (tmp_path / _NOT_UTF_8).write_bytes(image.read_bytes())
    (tmp_path / "key.pub").write_text(make_key(tmp_path).public.pem)
    (tmp_path / "directory").mkdir()
    (tmp_path / "text").write_text("text")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "control.yaml").write_bytes(b"a: \x01\n")
    (tmp_path / "binary").write_bytes(bytes(range(256)))


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(
    "path", ["missing", "directory", "text", "text/below", "list.json", "control.yaml", "binary", _NOT_UTF_8, "x" * 4096]
)
@pytest.mark.parametrize("command", _PEOPLE_S_COMMANDS.values(), ids=_PEOPLE_S_COMMANDS)
def test_path_that_a_command_cannot_use_is_one_line(command: list[str], path: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main([word.format(path) for word in command])
    printed = capsys.readouterr()
    if status == 0:
        assert printed.err == ""
    elif printed.out == "":
        assert printed.err.startswith("unikernel: ") and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "words", [[], ["nothing"], ["inspect"], ["inspect", ""], ["run", "--cpus", "x", "image.elf"], ["inspect", "a", "--", "b"]]
)
def test_words_that_are_no_command_are_shown_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: unikernel")


@pytest.mark.usefixtures("bad_files")
def test_name_that_is_not_utf_8_is_printed_as_it_can_be() -> None:
    printed = _unikernel("inspect", _NOT_UTF_8)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert "image\\udcff" in printed.stdout
