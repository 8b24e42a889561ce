from __future__ import annotations

import pytest
from pants.backend.cc.target_types import CCLanguage

from pants_unikernel.cc.target_types import LinkMode
from pants_unikernel.cc.toolchain import CCDriver, CCToolchain, CompilerNotFoundError, language_of

TOOLCHAIN = CCToolchain(
    c_driver=CCDriver("/usr/bin/gcc"),
    cxx_driver=CCDriver(None, "there is no C++ compiler."),
    fingerprint="0123",
    search_path=("/usr/bin", "/opt/bin"),
)


@pytest.mark.parametrize(
    "path,language",
    [("a/x.c", CCLanguage.C), ("a/x.cc", CCLanguage.CXX), ("x.cpp", CCLanguage.CXX), ("x.cxx", CCLanguage.CXX)],
)
def test_language_of(path: str, language: CCLanguage) -> None:
    assert language_of(path) is language


def test_driver() -> None:
    assert TOOLCHAIN.driver(CCLanguage.C, needed_by="app:bin") == "/usr/bin/gcc"
    with pytest.raises(CompilerNotFoundError, match=r"^app:bin can't be built: there is no C\+\+ compiler\.$"):
        TOOLCHAIN.driver(CCLanguage.CXX, needed_by="app:bin")


def test_link_modes() -> None:
    static = TOOLCHAIN.for_link_mode(LinkMode.STATIC)
    assert static.c_flags == static.cxx_flags == ("-O2", "-g", "-Wall", "-fno-pie")
    assert static.link_flags == ("-static",)
    pie = TOOLCHAIN.for_link_mode(LinkMode.STATIC_PIE)
    assert pie.compile_flags(CCLanguage.CXX)[-1] == "-fPIE" and pie.link_flags == ("-static-pie",)
    assert TOOLCHAIN.for_link_mode(LinkMode.DYNAMIC).link_flags == ("-pie",)


def test_process_env_is_complete() -> None:
    env = TOOLCHAIN.process_env()
    assert env["PATH"] == "/usr/bin:/opt/bin"
    assert env["CC_TOOLCHAIN_FINGERPRINT"] == "0123"
    assert set(env) == {"LC_ALL", "PATH", "PWD", "SOURCE_DATE_EPOCH", "CC_TOOLCHAIN_FINGERPRINT"}
