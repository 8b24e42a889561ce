from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from unikernel.linux.kit import close_entry_text, keep_init_text

# As the kernel's own makefile writes it, with the rest left out.
_SCRIPT = """\
 .vvar : AT(ADDR(.vvar) - 0xffffffff80000000) {
  *(.vvar_one)
 } :data
 . = ALIGN((1 << 12));
 .init.begin : AT(ADDR(.init.begin) - 0xffffffff80000000) {
  __init_begin = .;
 }
 . = ALIGN((1 << 12)); .init.text : AT(ADDR(.init.text) - 0xffffffff80000000) { _sinittext = .; *(.init.text) _einittext = .; }
 :init
 .altinstr_aux : AT(ADDR(.altinstr_aux) - 0xffffffff80000000) {
  *(.altinstr_aux)
 }
 .init.data : AT(ADDR(.init.data) - 0xffffffff80000000) { *(.init.data) }
 __init_end = .;
"""


def test_code_of_the_start_up_is_before_what_is_freed() -> None:
    script = keep_init_text(_SCRIPT)
    begin = script.index("__init_begin")
    assert script.count("__init_begin") == 1
    assert script.index(".init.text") < script.index("*(.altinstr_aux)") < begin < script.index("*(.init.data)")
    # Pages are freed as a whole.
    assert script[:begin].splitlines()[-3].strip() == ". = ALIGN(4096);"
    assert sorted(line for line in script.splitlines() if "ALIGN(4096)" not in line) == sorted(_SCRIPT.splitlines())


def test_a_script_of_another_shape_is_left_as_it_is() -> None:
    for script in ("SECTIONS { }\n", _SCRIPT.replace(".altinstr_aux", ".other"), keep_init_text(_SCRIPT)):
        assert keep_init_text(script) == script


_ENTRY_TEXT = """\
  . = ALIGN(8); __kprobes_text_start = .; *(.kprobes.text) __kprobes_text_end = .;
  . = ALIGN((1 << 21));
  . = ALIGN(8); __entry_text_start = .; *(.entry.text) __entry_text_end = .;
  . = ALIGN((1 << 21));
  . = ALIGN(8); __softirqentry_text_start = .; *(.softirqentry.text) __softirqentry_text_end = .;
 } :text =0xcccc
 . = ALIGN((1 << 12));
 . = ALIGN((1 << 21));
 .rodata : AT(ADDR(.rodata) - 0xffffffff80000000) { *(.rodata) }
"""


def test_there_are_no_gaps_around_what_enters_the_kernel() -> None:
    script = close_entry_text(_ENTRY_TEXT)
    # The one before the constants stays: it is not in the file.
    assert [line.strip() for line in script.splitlines() if "ALIGN((1 << 21))" in line or "4096" in line] == [
        ". = ALIGN(4096);",
        ". = ALIGN(4096);",
        ". = ALIGN((1 << 21));",
    ]
    assert len(script.splitlines()) == len(_ENTRY_TEXT.splitlines())
    other = _ENTRY_TEXT.replace("*(.entry.text)", "*(.other)")
    assert close_entry_text(other) == other


_ASK = "import subprocess, sys; subprocess.run(sys.argv[1:])"
_TAR = """\
#!/bin/sh
touch unpacking
while [ ! -e unpack ]; do sleep 0.1; done
exec tar "$@"
"""
_MAKE = """\
#!/bin/sh
echo $$ > "DIRECTORY/compiling"
exec sleep 1000
"""


@pytest.mark.parametrize("moment", ["unpacking", "compiling"])
def test_a_compilation_ends_with_who_asked_for_it(moment: str, tmp_path: Path) -> None:
    """As when Pants is killed."""
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\nEXTRAVERSION =\n")
    with tarfile.open(tmp_path / "linux.tar", "w") as tarball:
        tarball.add(tree, "linux")
    (tmp_path / "kernel.config").write_text("CONFIG_X86=y\n")
    for name, script in (("tar", _TAR), ("make", _MAKE.replace("DIRECTORY", str(tmp_path)))):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    if moment == "compiling":
        (tmp_path / "unpack").touch()
    command = [sys.executable, "-m", "unikernel.linux", "build-kit", "--source=linux.tar", "--config=kernel.config", "--output=kit"]
    asking = subprocess.Popen(
        [sys.executable, "-c", _ASK, *command, f"--tar={tmp_path / 'tar'}", f"--make={tmp_path / 'make'}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    while not (tmp_path / moment).exists():
        assert asking.poll() is None
        time.sleep(0.05)
    asking.kill()
    (tmp_path / "unpack").touch()
    # All that has the pipe is gone when it ends.
    printed, _ = asking.communicate(timeout=60)
    assert "Whoever started this build is gone" in printed
    assert not Path("/proc", (tmp_path / "compiling").read_text().strip()).exists()
