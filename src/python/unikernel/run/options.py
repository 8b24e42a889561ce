"""What a run of an image is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unikernel.image.spec import Port

ACCELERATORS = ("auto", "kvm", "tcg")


@dataclass(frozen=True)
class RunOptions:
    """What a run changes of what the image says. `ports` None means the image's own; a host port 0 is one that the system picks. `memory`
    is in bytes. `program` is what boots it in place of what its library OS names, such as another build of QEMU. `is_verified` tells that
    the image is signed by a key that the user trusts, or comes from the user's own build. `gdb` has the machine wait, before its first
    instruction, for a debugger.
    """

    memory: int | None = None
    cpus: int | None = None
    ports: Sequence[Port] | None = None
    accelerator: str = "auto"
    machine: str | None = None
    program: str | None = None
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    is_verified: bool = False
    gdb: bool = False
