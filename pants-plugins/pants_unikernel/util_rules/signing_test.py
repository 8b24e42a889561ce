from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pants.engine.addresses import Address
from pants.testutil.option_util import create_subsystem

from pants_unikernel.image_types import UnikernelImageFieldSet
from pants_unikernel.subsystems.signing import SigningMode, UnikernelSigning
from pants_unikernel.target_types import UnikernelImageTarget
from pants_unikernel.util_rules.failures import UnikernelBuildError
from pants_unikernel.util_rules.signing import (
    _source,
    _written_fields,
    configured_signer,
    trusted_key,
    user_path,
)
from unikernel.signing.development_key import development_key_path, load_development_key
from unikernel.testing.signing import make_key, write_key


def options(mode: SigningMode = SigningMode.DEVELOPMENT, **values: Any) -> UnikernelSigning:
    settings: dict[str, Any] = {
        "mode": mode,
        "key": None,
        "password_env": "PASSWORD",
        "password_file": None,
        "command": [],
        "command_timeout": 60,
        "public_key": None,
    }
    return create_subsystem(UnikernelSigning, **{**settings, **values})


def test_without_git_there_is_no_source_and_required_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environment = {"PATH": str(tmp_path)}
    assert _source(options(), tmp_path, environment, []) is None
    assert "names no source: there is no git on PATH" in caplog.text
    with pytest.raises(UnikernelBuildError, match='mode is "required", and the commit .* cannot be told: there is no git on PATH'):
        _source(options(SigningMode.REQUIRED), tmp_path, environment, [])


def test_what_pants_writes_makes_no_work_tree_dirty_wherever_it_is(tmp_path: Path) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for arguments in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "Nothing"]):
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)
    written = ["dist", str(tmp_path / "work"), "/elsewhere/.pids"]
    for path in ("dist/image.elf", "work/log"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text("")
    environment = {"PATH": os.environ["PATH"]}
    source = _source(options(), tmp_path, environment, written)
    assert source is not None and not source.dirty
    source = _source(options(), tmp_path, environment, written[:1])
    assert source is not None and source.dirty


def test_paths_are_the_users(tmp_path: Path) -> None:
    environment = {"HOME": "/home/ada"}
    assert user_path("~/key.pem", tmp_path, environment) == Path("/home/ada/key.pem")
    assert user_path("keys/key.pem", tmp_path, environment) == tmp_path / "keys/key.pem"
    assert user_path("/key.pem", tmp_path, environment) == Path("/key.pem")
    assert user_path("~ada/key.pem", tmp_path, environment) == tmp_path / "~ada/key.pem"


def test_a_password_file_goes_before_the_environment(tmp_path: Path) -> None:
    key = write_key(tmp_path / "key.pem", password=b"right")
    (tmp_path / "password").write_bytes(b"right\r\n")
    signer = configured_signer(options(key=str(key), password_file="password"), tmp_path, {"PASSWORD": "wrong"})
    assert signer is not None
    assert configured_signer(options(key=str(key)), tmp_path, {"PASSWORD": "right"}) == signer
    assert configured_signer(options(), tmp_path, {}) is None


def test_the_key_that_is_trusted_is_the_one_that_signs(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    with pytest.raises(UnikernelBuildError, match="there is no key here"):
        trusted_key(options(), tmp_path, environment)
    development = load_development_key(development_key_path(environment)).public
    assert trusted_key(options(), tmp_path, environment) == (development.pem, True)
    for mode in (SigningMode.OFF, SigningMode.REQUIRED):
        with pytest.raises(UnikernelBuildError, match="there is no key here"):
            trusted_key(options(mode), tmp_path, environment)
    key = make_key(tmp_path)
    assert trusted_key(options(key="key.pem"), tmp_path, environment) == (key.public.pem, False)
    (tmp_path / "other.pub").write_text(development.pem)
    assert trusted_key(options(key="none", public_key="other.pub"), tmp_path, environment) == (development.pem, False)


def test_fields_are_as_they_were_written_and_in_json() -> None:
    target = UnikernelImageTarget(
        {"app": ":web", "args": ["a"], "cpus": 2, "network": "dhcp", "files": [(":settings", "/etc/settings", "0600")]},
        Address("services/web", target_name="unikernel"),
    )
    assert _written_fields(UnikernelImageFieldSet.create(target)) == {
        "app": ":web",
        "args": ["a"],
        "cpus": 2,
        "network": "dhcp",
        "files": [{"source": ":settings", "destination": "/etc/settings", "mode": "0600"}],
    }
