"""The `cc_binary` target type."""

from __future__ import annotations

from enum import Enum

from pants.core.goals.run import RestartableField
from pants.core.util_rules.environments import EnvironmentField
from pants.engine.target import COMMON_TARGET_FIELDS, Dependencies, StringField, StringSequenceField, Target
from pants.util.strutil import help_text

from pants_unikernel.package_types import PackagedOutputPathField


class LinkMode(Enum):
    """How an executable is linked."""

    STATIC = "static"
    STATIC_PIE = "static-pie"
    DYNAMIC = "dynamic"


class CCBinaryDependenciesField(Dependencies):
    supports_transitive_excludes = True
    help = help_text(
        """
        The code of the binary: all C and C++ files (`.c`, `.cc`, `.cpp`, `.cxx`) of `cc_source(s)` targets in the
        transitive dependencies are compiled and linked.

        Pants infers that a file depends on the headers it includes (`#include "..."`); it can't know which file has the
        code that a header declares. So name your libraries here:

            cc_sources(name="src")
            cc_binary(name="server", dependencies=[":src", "lib/json:src"])

        `file`, `files`, `resource` and `resources` targets (and what generates such files) are there too when a source
        that depends on them is compiled, for example for `.incbin`, and when the binary is linked, for example a linker
        script or a prebuilt archive.

        Use `!` to leave out a dependency, and `!!` to leave out a transitive one.
        """
    )


class CCBinaryLinkField(StringField):
    alias = "link"
    valid_choices = LinkMode
    default = LinkMode.STATIC.value
    value: str
    help = help_text(
        """
        How the binary is linked:

          * `static`: complete in itself, at a fixed address. Right for an image with nothing else in it.
          * `static-pie`: complete in itself, at any address (ASLR).
          * `dynamic`: needs the dynamic loader and shared libraries of the system it was linked on.

        The sources are compiled to match: `-fno-pie` for `static`, `-fPIE` otherwise.
        """
    )


class CCBinaryCompileFlagsField(StringSequenceField):
    alias = "compile_flags"
    help = help_text(
        """
        Flags for the compiler, for C and for C++.

        They follow the default flags (`-O2 -g -Wall`) and those of the `[cc]` options, and so override them.
        The compiler runs in the build root, so a relative path in a flag is relative to it.

        Example: `compile_flags=["-O3", "-flto", "-Ithird_party/zlib"]`
        """
    )


class CCBinaryCCompileFlagsField(StringSequenceField):
    alias = "c_compile_flags"
    help = help_text(
        """
        Flags for the compiler, for C alone. They follow `compile_flags`.

        Example: `c_compile_flags=["-std=gnu17"]`. (The default of the `[cc].c_compiler_flags` option is `-std=c11`. It
        hides POSIX functions in the C library's headers unless the source defines `_GNU_SOURCE` or `_POSIX_C_SOURCE`.)
        """
    )


class CCBinaryCXXCompileFlagsField(StringSequenceField):
    alias = "cxx_compile_flags"
    help = help_text(
        """
        Flags for the compiler, for C++ alone. They follow `compile_flags`.

        Example: `cxx_compile_flags=["-std=c++20", "-fno-exceptions"]`
        """
    )


class CCBinaryDefinitionsField(StringSequenceField):
    alias = "definitions"
    help = help_text(
        """
        Macros that are defined for all sources of this binary (`-D`).

        Example: `definitions=["NDEBUG", "PORT=8080", "_GNU_SOURCE"]`
        """
    )


class CCBinaryLinkFlagsField(StringSequenceField):
    alias = "link_flags"
    help = help_text(
        """
        Flags for the linking compiler. They come after the objects and before the `libraries`.

        The linker runs in the build root, so a relative path is relative to it.

        Example: `link_flags=["-Wl,-z,stack-size=65536", "-Wl,--gc-sections", "-flto"]`
        """
    )


class CCBinaryLibrariesField(StringSequenceField):
    alias = "libraries"
    help = help_text(
        """
        Libraries of the host's toolchain to link with (`-l`), in this order: a library comes before those it needs.

        With `link="static"` and `link="static-pie"` these must be installed as archives (`libz.a`).

        Example: `libraries=["z", "m"]`
        """
    )


class CCBinaryOutputPathField(PackagedOutputPathField):
    pass


class CCBinaryTarget(Target):
    alias = "cc_binary"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        CCBinaryDependenciesField,
        CCBinaryLinkField,
        CCBinaryCompileFlagsField,
        CCBinaryCCompileFlagsField,
        CCBinaryCXXCompileFlagsField,
        CCBinaryDefinitionsField,
        CCBinaryLinkFlagsField,
        CCBinaryLibrariesField,
        CCBinaryOutputPathField,
        RestartableField,
        EnvironmentField,
    )
    help = help_text(
        """
        An executable, compiled and linked from C and C++ sources.

        Each source is compiled by itself, and again only if it, a header that it depends on, a flag or the toolchain
        changes. The compiler is the one that the `[cc]` options find. The binary keeps its symbols and debug
        information, and has the same bytes wherever it is built.

        Example:

            cc_sources(name="src")

            cc_binary(
                name="hello",
                dependencies=[":src"],
                libraries=["m"],
            )

        Build it with `package`, start it with `run`, or name it in the `packages` of an `archive`.
        """
    )
