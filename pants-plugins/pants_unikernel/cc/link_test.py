from __future__ import annotations

from pants_unikernel.cc.link import LinkOptions, UndefinedSymbol, _explain, undefined_symbols


def test_undefined_symbols_of_gnu_ld() -> None:
    output = """\
/usr/bin/ld: __objects__/app/main.c.o: in function `main':
./app/main.c:6: undefined reference to `shout'
/usr/bin/ld: ./app/main.c:7: undefined reference to `shout'
/usr/bin/ld: __objects__/app/other.cc.o: in function `ns::T::run(int)':
other.cc:(.text+0x5): undefined reference to `shout'
/usr/bin/ld: __objects__/app/table.c.o:(.data.rel+0x0): undefined reference to `handler'
/usr/bin/ld: /usr/lib/x86_64-linux-gnu/libz.a(inflate.o): in function `inflate':
(.text+0x17): undefined reference to `ns::helper(std::string const&)'
/usr/bin/ld: /usr/lib/x86_64-linux-gnu/crt1.o: in function `_start':
(.text+0x17): undefined reference to `main'
collect2: error: ld returned 1 exit status
"""
    assert undefined_symbols(output) == (
        UndefinedSymbol("handler", ("app/table.c",)),
        UndefinedSymbol("main", ("crt1.o (_start)",)),
        UndefinedSymbol("ns::helper(std::string const&)", ("libz.a(inflate.o) (inflate)",)),
        UndefinedSymbol("shout", ("app/main.c (main)", "app/other.cc (ns::T::run(int))")),
    )


def test_undefined_symbols_of_lld() -> None:
    output = """\
ld.lld: error: undefined symbol: shout
>>> referenced by main.c:6 (./app/main.c:6)
>>>               __objects__/app/main.c.o:(main)
>>> referenced by other.c:3 (./app/other.c:3)
>>>               __objects__/app/other.c.o:(twice)
clang: error: linker command failed with exit code 1 (use -v to see invocation)
"""
    assert undefined_symbols(output) == (UndefinedSymbol("shout", ("app/main.c (main)", "app/other.c (twice)")),)


def test_other_output_has_no_undefined_symbols() -> None:
    output = """\
/usr/bin/ld: __objects__/a.c.o: in function `f':
./a.c:1: multiple definition of `f'; b.c:1: first defined here
"""
    assert undefined_symbols(output) == ()
    assert _explain(output, needed_by="app:bin") == ""


def test_missing_library() -> None:
    advice = _explain("/usr/bin/ld: cannot find -lfoo: No such file or directory\n", needed_by="app:bin")
    assert "libfoo" in advice and "`.a`" in advice


def test_libraries_follow_flags() -> None:
    assert LinkOptions(flags=("-L.",), libraries=("z", "m")).arguments == ("-L.", "-lz", "-lm")
