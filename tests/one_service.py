"""A repository with one service, for tests of what goes wrong around its builds: what has to be so after each of them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from pants_project import PantsProject
from pants_store import damaged_entries, store_of
from unikernel.signing.development_key import public_part_path
from unikernel.signing.keys import PublicKey
from unikernel.signing.policy import Policy
from unikernel.signing.verify import Verification, verify_image

# Of a library OS without a kernel to compile: all of it is built in seconds, also into an empty store.
PICOLIBC = 'library_os="picolibc"'
_BUILD = """\
cc_sources(name="sources")
cc_binary(name="program", dependencies=[":sources"])
unikernel_image(name="unikernel", app=":program", network="none", {fields})
"""


class OneService:
    """`store` is Pants' local store: by default the user's, with what is built in it. It is looked at after each step for what is new in it, and
    at the end of a `with` that nothing has failed in, all of it.
    """

    def __init__(self, root: Path, *, fields: str = "", cache: Path | None = None) -> None:
        environment = {} if cache is None else {"XDG_CACHE_HOME": str(cache)}
        self.store = store_of(cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"))
        self.project = PantsProject(root, environment=environment)
        self.project.write("app/BUILD", _BUILD.format(fields=fields))
        self.image = root / "dist/app/unikernel.elf"
        self._whole: set[tuple[str, bytes]] = set()
        self.change()

    def __enter__(self) -> OneService:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self.project.__exit__()
        if failure is None:
            assert damaged_entries(self.store) == []

    def change(self) -> None:
        """To something that no cache knows, and that is in the image."""
        self._mark = uuid.uuid4().hex
        text = f'#include <stdio.h>\nint main(void) {{ return puts("{self._mark}") < 0; }}\n'
        self.project.write("app/main.c", text)

    def same_as(self, other: OneService) -> None:
        self._mark = other._mark
        self.project.write("app/main.c", (other.project.root / "app/main.c").read_bytes())

    def package(self, *options: str, daemon: bool = False) -> str:
        """All is well afterwards."""
        printed = self.project.succeed("--pantsd" if daemon else "--no-pantsd", *options, "package", "::")
        self.check()
        return printed

    def verification(self) -> Verification:
        keys = [PublicKey.load(public_part_path(self.project.development_key))]
        return verify_image(self.image, keys, Policy(development_keys=True))

    def check(self) -> None:
        verification = self.verification()
        assert verification.holds, verification.failures()
        assert self._mark.encode() in self.image.read_bytes()
        assert damaged_entries(self.store, self._whole) == []
