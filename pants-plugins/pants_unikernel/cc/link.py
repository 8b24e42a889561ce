"""Linking objects into an executable: one process, and errors that say what is missing."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pants.engine.fs import EMPTY_DIGEST, Digest
from pants.engine.process import Process
from pants.util.logging import LogLevel
from pants.util.strutil import pluralize

from pants_unikernel import engine
from pants_unikernel.cc.compile import OBJECTS_DIRECTORY, CompiledObjects
from pants_unikernel.cc.toolchain import PREFIX_MAP_FLAGS, CCToolchain, probe_host

logger = logging.getLogger(__name__)


class LinkError(Exception):
    """The linker could not make an executable."""


@dataclass(frozen=True)
class LinkOptions:
    """Flags and libraries of a target. They follow the objects."""

    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*self.flags, *(f"-l{library}" for library in self.libraries))


@dataclass(frozen=True)
class LinkedBinary:
    digest: Digest
    path: str


# --- what a linker prints -----------------------------------------------------------------------------------------

_OBJECT = re.compile(rf"{OBJECTS_DIRECTORY}/(?P<source>[^\s:()]+)\.o\b")
# GNU ld: "ld: OBJECT: in function `main':", then for each use "FILE:LINE: undefined reference to `foo'".
_GNU_FUNCTION = re.compile(r"(?:[^\s:]*ld[^\s:]*: )?(?P<object>[^\s:]+\.o\)?)\S*: in function [`'](?P<function>.+?)':")
_GNU_UNDEFINED = re.compile(r"undefined reference to [`'](?P<symbol>.+)'$")
# lld: "ld.lld: error: undefined symbol: foo", then for each use ">>> referenced by FILE:LINE", ">>>   OBJECT:(main)".
_LLD_UNDEFINED = re.compile(r"undefined symbol: (?P<symbol>.+)$")
_LLD_USER = re.compile(r">>>\s+(?P<object>[^\s:]+\.o\)?)\S*:\((?P<function>.+)\)")
_MISSING_LIBRARY = re.compile(r"cannot find -l(?P<gnu>[^\s:]+)|unable to find library -l(?P<lld>\S+)")


@dataclass(frozen=True)
class UndefinedSymbol:
    """A symbol that nothing defines, and who needs it: "path/of/source.c (function)"."""

    name: str
    users: tuple[str, ...]


def _user(object_path: str, function: str | None) -> str:
    match = _OBJECT.search(object_path)
    # An object that is not ours, for example crt1.o, is called by its file name alone.
    name = match.group("source") if match else object_path.rpartition("/")[2]
    return f"{name} ({function})" if function else name


def _gnu_uses(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    user = ""
    for line in lines:
        context = _GNU_FUNCTION.search(line)
        if context:
            user = _user(context.group("object"), context.group("function"))
        match = _GNU_UNDEFINED.search(line)
        if not match:
            continue
        own_object = _OBJECT.search(line)
        # Outside of functions (a table of pointers, say) the line itself names the object.
        yield match.group("symbol"), _user(own_object.group(), None) if own_object and not context else user


def _lld_uses(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    symbol = ""
    for line in lines:
        match = _LLD_UNDEFINED.search(line)
        if match:
            symbol = match.group("symbol")
        user = _LLD_USER.search(line)
        if user and symbol:
            yield symbol, _user(user.group("object"), user.group("function"))


def undefined_symbols(linker_output: str) -> tuple[UndefinedSymbol, ...]:
    """The symbols that the output of GNU ld, gold or lld says to be undefined."""
    users: defaultdict[str, dict[str, None]] = defaultdict(dict)
    lines = linker_output.splitlines()
    for symbol, user in (*_gnu_uses(lines), *_lld_uses(lines)):
        users[symbol].setdefault(user)
    return tuple(UndefinedSymbol(name, tuple(user for user in of if user)) for name, of in sorted(users.items()))


def _explain(linker_output: str, *, needed_by: str, provider: str | None = None) -> str:
    """What is wrong and what to do about it, from what the linker printed."""
    parts = []
    symbols = undefined_symbols(linker_output)
    if symbols:
        width = max(len(symbol.name) for symbol in symbols)
        uses = (", ".join(symbol.users) or "an unnamed place" for symbol in symbols)
        listing = "\n".join(f"  {symbol.name:<{width}}  needed by {of}" for symbol, of in zip(symbols, uses))
        what = f"not provided by {provider}" if provider else "used but not defined"
        parts.append(
            f"{pluralize(len(symbols), 'symbol')} {what}:\n\n{listing}\n\n"
            f"Add the target of the source that defines it to the `dependencies` of {needed_by} (a header in the "
            "dependencies does not bring its source), or the library to its `libraries`."
        )
    missing = sorted({match.group("gnu") or match.group("lld") for match in _MISSING_LIBRARY.finditer(linker_output)})
    if missing:
        parts.append(
            f"Not found for this way of linking: {', '.join(f'lib{name}' for name in missing)}. A static executable "
            "needs libraries as archives (`.a`), which some distributions package separately (`glibc-static`)."
        )
    return "\n\n".join(parts)


# --- linking ------------------------------------------------------------------------------------------------------


async def _libraries_fingerprint(toolchain: CCToolchain, driver: str, options: LinkOptions) -> str | None:
    """A fingerprint of the host's libraries that the flags name. The toolchain's covers what the compiler adds."""
    flags = [flag for flag in options.arguments if flag.startswith(("-l", "-L"))]
    if toolchain.probe is None or not any(flag.startswith("-l") for flag in flags):
        return None
    return await probe_host(
        toolchain.probe,
        ["libraries", driver, *flags],
        search_path=toolchain.search_path,
        description="Fingerprint the libraries to link with",
    )


async def link_binary(
    objects: CompiledObjects,
    toolchain: CCToolchain,
    options: LinkOptions = LinkOptions(),
    *,
    output_path: str,
    needed_by: str,
    input_digest: Digest = EMPTY_DIGEST,
    provider: str | None = None,
) -> LinkedBinary:
    """Link the objects to an executable at `output_path`; `input_digest` has other files that the flags name.

    `needed_by` names what is linked in errors, and `provider` a library OS that the program is linked with, if it is.
    """
    driver = toolchain.driver(objects.language, needed_by=needed_by)
    libraries = await _libraries_fingerprint(toolchain, driver, options)
    if libraries:
        toolchain = replace(toolchain, fingerprint=f"{toolchain.fingerprint}-{libraries}")
    result = await engine.run_fallible_process(
        Process(
            (
                driver,
                *toolchain.link_flags,
                # Link-time optimization compiles, too.
                *PREFIX_MAP_FLAGS,
                f"-frandom-seed={output_path}",
                *objects.paths,
                *options.arguments,
                "-o",
                output_path,
            ),
            env=toolchain.process_env(),
            input_digest=await engine.merge_digests((objects.digest, input_digest)),
            immutable_input_digests=toolchain.immutable_inputs,
            output_files=(output_path,),
            description=f"Link {needed_by} with {provider}" if provider else f"Link {needed_by}",
            level=LogLevel.INFO,
        )
    )
    printed = (result.stdout + result.stderr).decode(errors="replace").strip("\n")
    if result.exit_code:
        parts = (
            f"{needed_by} can't be linked.",
            _explain(printed, needed_by=needed_by, provider=provider),
            f"The linker said:\n{printed}",
        )
        raise LinkError("\n\n".join(part for part in parts if part))
    if printed:
        logger.warning(f"{needed_by}:\n{printed}")
    return LinkedBinary(result.output_digest, output_path)
