from __future__ import annotations

import json
from pathlib import Path

import pytest

from unikernel import cli
from unikernel.linux.kit_key import key_ingredients
from unikernel.signing.development_key import development_key_path, public_part_path
from unikernel.signing.keys import PrivateKey
from unikernel.testing.kits import exportable_kit
from unikernel.testing.signing import write_key


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a kit, and a key that signs; the user's own directories are below it."""
    exportable_kit(tmp_path)
    public = PrivateKey.load(write_key(tmp_path / "key.pem"), None).public
    (tmp_path / "key.pub").write_text(public.pem)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    return tmp_path


def _export(*options: str) -> int:
    return cli.main(["kit", "export", "--kit=kit", "--init=init", "--output=.", *options])


def test_export_import_list_inspect(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = key_ingredients(["CONFIG_SMP=y"]).key
    assert _export("--sign-key=key.pem", "--option=CONFIG_SMP=y") == 0
    printed = capsys.readouterr().out
    fingerprint = PrivateKey.load(directory / "key.pem", None).public.fingerprint
    assert printed.startswith(f"{key}.kit\n") and f"signed by the key {fingerprint}" in printed
    assert f"Linux 6.1.1, cache key {key}, the base configuration with CONFIG_SMP=y" in printed
    assert cli.main(["kit", "list"]) == 0 and capsys.readouterr().out == ""
    assert cli.main(["kit", "import", f"{key}.kit", "--key=key.pub"]) == 0
    imported = directory / f"data/unikernel/kits/{key}.kit"
    assert imported.is_file() and capsys.readouterr().out.startswith(f"{imported}\n")
    assert cli.main(["kit", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["path"], listed["key"], listed["version"], listed["signer"]) == (str(imported), key, "6.1.1", None)
    assert cli.main(["kit", "list", "--key=key.pub"]) == 0
    assert f"signed by the key {fingerprint}" in capsys.readouterr().out
    assert cli.main(["kit", "inspect", str(imported), "--key=key.pub", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["signer"] == fingerprint and document["source_sha256"] == "50" * 32
    assert document["ingredients"]["kernel_options"] == ["CONFIG_SMP=y"]
    assert cli.main(["kit", "inspect", str(imported)]) == 0
    printed = capsys.readouterr().out
    assert "signature: not verified" in printed and f"kernel source: SHA-256 {'50' * 32}" in printed and "GPL-2.0" in printed


def test_a_development_key(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export("--sign-with-development-key") == 0
    assert "signed by the development key" in capsys.readouterr().out
    key = public_part_path(development_key_path({"XDG_CONFIG_HOME": str(directory / "configuration")}))
    command = ["kit", "import", f"{key_ingredients([]).key}.kit", f"--key={key}"]
    assert cli.main(command) == 1
    assert "is signed by a development key" in capsys.readouterr().err
    assert cli.main([*command, "--allow-development-keys"]) == 0


def test_an_encrypted_key(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(directory / "key.pem", password=b"secret")
    assert _export("--sign-key=key.pem", "--password-env=KIT_PASSWORD") == 1
    assert "a password is needed. Set the environment variable KIT_PASSWORD" in capsys.readouterr().err
    monkeypatch.setenv("KIT_PASSWORD", "secret")
    assert _export("--sign-key=key.pem", "--password-env=KIT_PASSWORD") == 0


def test_an_import_that_is_refused_is_one_line_and_status_1(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export("--sign-key=key.pem") == 0
    capsys.readouterr()
    archive, wrong = f"{key_ingredients([]).key}.kit", "00" * 32
    assert cli.main(["kit", "import", archive, "--key=key.pub", f"--expect={wrong}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"unikernel: {archive} has the cache key") and error.count("\n") == 1
    assert not (directory / "data").exists() or not list((directory / "data").rglob("*.kit"))


def test_a_list_with_a_kit_that_is_damaged(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _export("--sign-key=key.pem") == 0
    (directory / "other.kit").write_bytes(b"text")
    capsys.readouterr()
    assert cli.main(["kit", "list", "--directory=."]) == 1
    printed = capsys.readouterr()
    assert key_ingredients([]).key in printed.out and "other.kit is not a valid kit archive" in printed.err


def test_the_steps_of_a_build(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What they pack is what `kit export` signs."""
    assert _export("--sign-key=key.pem") == 0
    archive = directory / f"{key_ingredients([]).key}.kit"
    assert cli.main(["pack-kit", "--kit=kit", "--init=init", "--output=packed"]) == 0
    assert (directory / "packed").read_bytes() == archive.read_bytes()
    expect = f"--expect={archive.stem}"
    assert cli.main(["unpack-kit", archive.name, "--key=key.pub", expect, "--kit=new/kit", "--init=new/init"]) == 0
    assert (directory / "new/kit/kit.json").read_bytes() == (directory / "kit/kit.json").read_bytes()
    assert (directory / "new/init").read_bytes() == (directory / "init").read_bytes()


def test_kit_needs_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["kit"])
    assert "COMMAND" in capsys.readouterr().err
