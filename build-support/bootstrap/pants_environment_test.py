from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pip_settings
from pants_environment import PantsEnvironment


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PantsEnvironment:
    """An installation that is there, in a directory with a space and a letter outside ASCII."""
    monkeypatch.setattr(pip_settings, "configuration_of", lambda _: {"constraint": "/c.txt", "cert": "/my certs.pem"})
    for variable in ("PIP_CERT", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    state = tmp_path / "my projet é"
    (state / "venv/bin").mkdir(parents=True)
    for program in ("pants", "pants-client"):
        (state / "venv/bin" / program).touch()
    for lock in ("pip.lock", "requirements.lock"):
        (state / lock).write_text("pants==2\n")
    (state / "pex-1").touch()
    (state / "pex.json").write_text(json.dumps({"PANTS_PEX_CLI_URL_TEMPLATE": f"file://{state}/pex-1"}))
    return PantsEnvironment(state, plain=state, pip_lock=state / "pip.lock", lock=state / "requirements.lock", log=state / "log")


def settings(environment: PantsEnvironment) -> dict[str, str]:
    """Return the settings as the shell script `./pants` reads them."""
    path = environment._state / "environment"
    script = f"set -a; . {shlex.quote(str(path))}; env -0"
    nothing: dict[str, str] = {}
    printed = subprocess.run(["bash", "-c", script], env=nothing, stdout=subprocess.PIPE, check=True).stdout.decode()
    return dict(item.split("=", 1) for item in printed.split("\0") if "=" in item)


def test_settings_survive_the_shell(environment: PantsEnvironment) -> None:
    python = Path("/opt/it's é/python3.9")
    environment.write_settings(python)
    read = settings(environment)
    assert read["PANTS_CA_CERTS_PATH"] == "/my certs.pem"
    added = ast.literal_eval(read["PANTS_SUBPROCESS_ENVIRONMENT_ENV_VARS"][1:])
    assert added == ["PIP_CERT=/my certs.pem", "PIP_CONFIG_FILE=/dev/null"]
    searched = ast.literal_eval(read["PANTS_PYTHON_BOOTSTRAP_SEARCH_PATH"][1:])
    assert searched == [str(python.parent)]


def test_pants_is_installed_again_when_anything_that_decides_it_changes(environment: PantsEnvironment) -> None:
    python = Path(sys.executable)
    state = environment._state
    assert not environment.is_installed(python)
    (state / "installed").write_text(environment._wanted(python))
    assert environment.is_installed(python)
    assert not environment.is_installed(Path("/another/python3.9"))
    (state / "requirements.lock").write_text("pants==3\n")
    assert not environment.is_installed(python)


def test_a_lost_file_is_noticed(environment: PantsEnvironment) -> None:
    python = Path(sys.executable)
    (environment._state / "installed").write_text(environment._wanted(python))
    (environment._state / "pex-1").unlink()
    assert not environment.is_installed(python)


def test_pants_is_found_where_it_cannot_be_below_the_checkout(environment: PantsEnvironment, tmp_path: Path) -> None:
    (tmp_path / "plain/venv/bin").mkdir(parents=True)
    (tmp_path / "plain/venv/bin/pants").touch()
    environment._venv = tmp_path / "plain/venv"
    for _ in ("in place of a directory", "in place of the link"):
        environment._link_venv()
        assert (environment._state / "venv/bin/pants").resolve() == environment._venv / "bin/pants"


def test_pants_client_becomes_a_program(environment: PantsEnvironment) -> None:
    packages = environment._venv / "lib/python3.9/site-packages/pants/bin"
    packages.mkdir(parents=True)
    (packages / "native_client").write_text("#!/bin/sh\nexit 3\n")
    (environment._venv / "bin/pants-client").unlink()
    environment._link_client()
    assert subprocess.run([environment._venv / "bin/pants-client"]).returncode == 3
