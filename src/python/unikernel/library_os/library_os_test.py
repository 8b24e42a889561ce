from __future__ import annotations

import pytest

from unikernel.errors import UnikernelError
from unikernel.library_os import find_library_os, library_os_names
from unikernel.run.qemu import ACCELERATORS


def test_every_module_is_a_library_os_and_no_test_is() -> None:
    assert library_os_names() == ("linux",)
    for name in library_os_names():
        assert find_library_os(name).name == name


@pytest.mark.parametrize("name", ["plan9", "description", "linux.x", ""])
def test_an_unknown_name_is_refused_with_those_that_are_there(name: str) -> None:
    with pytest.raises(UnikernelError, match=f"no library OS '{name}'; there are linux"):
        find_library_os(name)


def test_every_machine_has_a_cpu_for_every_accelerator() -> None:
    for name in library_os_names():
        machines = find_library_os(name).machines
        assert machines
        for machine in machines.values():
            assert set(machine.cpu) == set(ACCELERATORS) - {"auto"}
            assert "-no-reboot" in machine.arguments
