"""Linux in unikernel form: see docs/linux-library-os.md."""

from unikernel.library_os.description import ExitStatus, LibraryOs, QemuMachine

_ARGUMENTS = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")

LIBRARY_OS = LibraryOs(
    name="linux",
    title="Linux, compiled once into a linkable kit",
    licence="GPL-2.0-only WITH Linux-syscall-note",
    machines={
        "microvm": QemuMachine(
            program="qemu-system-x86_64",
            # No firmware tables: the kernel has no ACPI, and finds its devices on the command line that QEMU extends.
            machine="microvm,acpi=off",
            cpu={"kvm": "host", "tcg": "max"},
            arguments=_ARGUMENTS,
            network_device="virtio-net-device",
        ),
        "q35": QemuMachine(
            program="qemu-system-x86_64",
            machine="q35",
            cpu={"kvm": "host", "tcg": "max"},
            arguments=_ARGUMENTS,
            network_device="virtio-net-pci",
        ),
    },
    exit_status=ExitStatus(status_port=0x502),
)
