from __future__ import annotations

import pytest

from unikernel.errors import UnikernelError
from unikernel.library_os import find_library_os, library_os_names
from unikernel.run.options import ACCELERATORS


def test_every_description_is_valid_and_called_as_its_file() -> None:
    assert {"linux", "nanos", "picolibc", "solo5", "unikraft"} <= set(library_os_names())
    for name in library_os_names():
        assert find_library_os(name).name == name


@pytest.mark.parametrize("name", ["plan9", "description", "linux.x", ""])
def test_an_unknown_name_is_refused_with_those_that_are_there(name: str) -> None:
    with pytest.raises(UnikernelError, match=f"no library OS '{name}'; there are halvm, .*picolibc"):
        find_library_os(name)


@pytest.mark.parametrize(("name", "near"), [("linus", "linux"), ("picolib", "picolibc"), ("Linux", "linux")])
def test_the_nearest_name_is_a_hint(name: str, near: str) -> None:
    with pytest.raises(UnikernelError, match=f"Did you mean '{near}'"):
        find_library_os(name)


def test_every_machine_can_be_emulated_and_shows_no_window() -> None:
    for name in library_os_names():
        for machine in find_library_os(name).machines.values():
            if not machine.machine:
                continue
            assert {"tcg"} <= set(machine.cpu) <= set(ACCELERATORS)
            assert "-no-reboot" in machine.arguments
            assert machine.arguments[machine.arguments.index("-display") + 1] == "none"
