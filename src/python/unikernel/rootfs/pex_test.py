from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from unikernel.errors import UnikernelError
from unikernel.rootfs.pex import is_pex, read_pex_info, unpack_pex, unpack_wheel, wheel_contents
from unikernel.rootfs.raw_distributions import pack_distributions, unpack_distributions
from unikernel.testing.python import pex_info, wheel, write_tree, write_zip

_PEX_OWN = {
    "__main__.py": "raise SystemExit('PEX would start here')",
    "__pex__/__init__.py": "",
    ".bootstrap/pex/__init__.py": "",
}


def _files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("as_zip", [True, False])
def test_application_and_distributions_are_separated(tmp_path: Path, as_zip: bool) -> None:
    files = {
        **_PEX_OWN,
        "PEX-INFO": pex_info(entry_point="app"),
        "app.py": "import lib",
        "app.pyc": "what pex --compile makes",
        "__pycache__/app.cpython-311.pyc": "the same",
        "pkg/__main__.py": "",
        **wheel("lib", {"lib/__init__.py": "x = 1"}),
    }
    pex = tmp_path / "a.pex"
    _ = write_zip(pex, files) if as_zip else write_tree(pex, files)
    unpack_pex(pex, tmp_path / "out")
    assert _files(tmp_path / "out/application") == {"app.py": "import lib", "pkg/__main__.py": ""}
    assert _files(tmp_path / "out/distributions")["lib-1.0-py3-none-any.whl/lib/__init__.py"] == "x = 1"


def test_programs_stay_executable_on_their_way_to_the_image(tmp_path: Path) -> None:
    # Browsers' drivers, ffmpeg and the like come as data of distributions.
    driver = ".deps/lib-1.0-py3-none-any.whl/lib/driver"
    files = {"PEX-INFO": pex_info(), "tool.sh": "#!/bin/sh", **wheel("lib", {"lib/driver": "", "lib/data": ""})}
    pex = write_zip(tmp_path / "a.pex", files, executable=(driver, "tool.sh"))
    unpack_pex(pex, tmp_path / "out")
    pack_distributions(tmp_path / "out/distributions", ["CPython>=3.9"], tmp_path / "raw.tar")
    assert unpack_distributions(tmp_path / "raw.tar", tmp_path / "raw") == ["CPython>=3.9"]
    unpack_wheel(tmp_path / "raw/lib-1.0-py3-none-any.whl", tmp_path / "site")
    assert os.access(tmp_path / "out/application/tool.sh", os.X_OK)
    assert os.access(tmp_path / "site/lib/driver", os.X_OK)
    assert not os.access(tmp_path / "site/lib/data", os.X_OK)


def test_raw_distributions_are_the_same_bytes_for_the_same_files(tmp_path: Path) -> None:
    for name, order in (("one", ("a", "b/c")), ("two", ("b/c", "a"))):
        write_tree(tmp_path / name, {path: path for path in order})
        os.utime(tmp_path / name / "a", (1, len(name)))
        pack_distributions(tmp_path / name, (), tmp_path / f"{name}.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert unpack_distributions(tmp_path / "one.tar", tmp_path / "out") == []
    assert _files(tmp_path / "out") == {"a": "a", "b/c": "b/c"}


def test_a_member_that_leads_out_is_refused(tmp_path: Path) -> None:
    for name in ("../evil.py", "/evil.py", "a/../../evil.py"):
        pex = write_zip(tmp_path / "a.pex", {"PEX-INFO": pex_info(), name: ""})
        with pytest.raises(UnikernelError, match="evil.py' leads out of the archive"):
            unpack_pex(pex, tmp_path / f"out{len(name)}")


def test_what_is_no_pex(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    assert not is_pex(tmp_path / "text")
    assert not is_pex(tmp_path)
    assert not is_pex(tmp_path / "none")
    assert not is_pex(write_zip(tmp_path / "a.zip", {"x/PEX-INFO": "{}"}))
    assert is_pex(write_zip(tmp_path / "a.pex", {"PEX-INFO": "{}"}))


def test_pex_info_with_nothing_in_it(tmp_path: Path) -> None:
    facts = read_pex_info(write_zip(tmp_path / "a.pex", {"PEX-INFO": '{"inject_args": null}'}))
    assert (facts.entry_point, facts.script, facts.inject_args, dict(facts.inject_env)) == (None, None, (), {})


@pytest.mark.parametrize("as_zip", [True, False])
def test_of_a_wheel_only_what_belongs_on_the_path_is_laid_out(tmp_path: Path, as_zip: bool) -> None:
    files = {
        "lib/__init__.py": "",
        "lib/__pycache__/__init__.cpython-311.pyc": "stale",
        "lib/secret.pyc": "a module without a source",
        "lib/known.py": "",
        "lib/known.pyc": "stale too",
        "lib-1.0.data/purelib/pure.py": "pure",
        "lib-1.0.data/platlib/plat/x.py": "plat",
        "lib-1.0.data/scripts/tool": "#!python",
        "lib-1.0.data/headers/lib.h": "",
        "lib-1.0.dist-info/METADATA": "",
        ".prefix/bin/tool": "",
        ".layout.json": "{}",
    }
    source = tmp_path / "lib-1.0-py3-none-any.whl"
    _ = write_zip(source, files) if as_zip else write_tree(source, files)
    unpack_wheel(source, tmp_path / "site")
    metadata, digests = wheel_contents(source)
    assert metadata == b""
    assert set(digests) == {
        name for name in files if not name.endswith(".pyc") and name not in (".prefix/bin/tool", ".layout.json")
    }
    assert digests["lib-1.0.data/purelib/pure.py"] == hashlib.sha256(b"pure").hexdigest()
    assert sorted(_files(tmp_path / "site")) == [
        "lib-1.0.dist-info/METADATA",
        "lib/__init__.py",
        "lib/known.py",
        "lib/secret.pyc",
        "plat/x.py",
        "pure.py",
    ]


def test_distributions_share_a_namespace_package(tmp_path: Path) -> None:
    marker = "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
    write_tree(tmp_path / "a", {"ns/__init__.py": marker, "ns/a.py": "", "ns/common/__init__.py": ""})
    write_tree(tmp_path / "b", {"ns/__init__.py": marker, "ns/b.py": "", "ns/common/__init__.py": "x = 1"})
    write_tree(tmp_path / "c", {"ns/common/__init__.py": "\n"})
    for name in "abc":
        unpack_wheel(tmp_path / name, tmp_path / "site")
    assert _files(tmp_path / "site") == {
        "ns/__init__.py": marker,
        "ns/a.py": "",
        "ns/b.py": "",
        "ns/common/__init__.py": "x = 1",
    }


def test_of_two_distributions_with_one_file_the_first_wins_and_the_other_is_told(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", {"same.py": "1", "tests/differs.py": "1", "ns/__init__.py": "a"})
    write_tree(tmp_path / "b", {"same.py": "1"})
    write_tree(tmp_path / "c", {"tests/differs.py": "2", "ns/__init__.py": "c"})
    assert unpack_wheel(tmp_path / "a", tmp_path / "site") == []
    assert unpack_wheel(tmp_path / "b", tmp_path / "site") == []
    assert unpack_wheel(tmp_path / "c", tmp_path / "site") == ["ns/__init__.py", "tests/differs.py"]
    assert _files(tmp_path / "site") == {"same.py": "1", "tests/differs.py": "1", "ns/__init__.py": "a"}
