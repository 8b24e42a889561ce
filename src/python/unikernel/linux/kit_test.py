from __future__ import annotations

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
