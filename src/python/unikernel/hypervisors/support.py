"""Whether a hypervisor boots the images of a library OS, before there is one."""

from __future__ import annotations

from collections.abc import Container, Sequence

from unikernel.errors import UnikernelError
from unikernel.hypervisors import HYPERVISORS, Hypervisor
from unikernel.library_os.description import HypervisorSupport, LibraryOs


def supported(library_os: LibraryOs, hypervisor: str) -> HypervisorSupport:
    """Raises UnikernelError for a library OS whose images the hypervisor does not boot."""
    support = library_os.hypervisors.get(hypervisor)
    if support is None:
        others = list(library_os.hypervisors)
        only = f", only {' and '.join(others)} {'does' if len(others) == 1 else 'do'}" if others else ""
        raise UnikernelError(
            f"{HYPERVISORS[hypervisor].title} does not boot images of {library_os.name}{only}: its description says by what they are "
            "booted (docs/hypervisors.md)."
        )
    return support


def check_cpus(cpus: int, hypervisor: str, origin: str) -> None:
    """Raises UnikernelError for more than the hypervisor has."""
    about = HYPERVISORS[hypervisor]
    if cpus > about.most_cpus:
        raise UnikernelError(f"{origin} is to have {cpus} CPUs, and {about.title} gives a machine {about.most_cpus} at most.")


def check_options(options: Container[str], support: HypervisorSupport, cpus: int, about: Hypervisor) -> None:
    """Raises UnikernelError for a kernel that has none of what the hypervisor takes; `options` are its own."""
    missing = [option for option in support.kernel_config if option not in options]
    if missing:
        raise UnikernelError(f"its kernel knows nothing of {about.title}; build it with {_as_field(missing)}.")
    missing = [option for option in support.kernel_config_smp if option not in options]
    if missing and cpus > 1:
        raise UnikernelError(f"its kernel would find only one of {cpus} CPUs there; build it with {_as_field(missing)}.")


def _as_field(options: Sequence[str]) -> str:
    """As a BUILD file has them."""
    return "kernel_config=[" + ", ".join(f'"{option}"' for option in options) + "]"
