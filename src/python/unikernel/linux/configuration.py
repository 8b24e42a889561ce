"""The kernel's configuration: our base, an image's options on top, resolved by the kernel's own Kconfig and then checked.

Kconfig drops what it does not know, and what its dependencies do not allow, without a word. Here both are errors.
"""

from __future__ import annotations

import importlib.resources
import re
import subprocess
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unikernel.errors import UnikernelError
from unikernel.linux.kconfig import Kconfig
from unikernel.linux.marker import COMMAND_LINE_MARKER
from unikernel.linux.source import kernel_version, unpack

# What the link step relies on; an image cannot choose it.
_RESERVED = {
    "CONFIG_CMDLINE": "kernel_parameters is the field for kernel parameters",
    "CONFIG_CMDLINE_BOOL": "the command line is compiled in by the link",
    "CONFIG_CMDLINE_OVERRIDE": "arguments at run time are passed on the command line",
    "CONFIG_INITRAMFS_SOURCE": "the root file system is linked in by the link",
    "CONFIG_BLK_DEV_INITRD": "the root file system is unpacked by it",
    "CONFIG_PVH": "virtual machine monitors start the image by it",
    "CONFIG_MODULES": "there is no module loader in an image",
    "CONFIG_KALLSYMS": "its table cannot be linked in one pass",
    "CONFIG_UNWINDER_ORC": "its table cannot be linked in one pass",
}
_OPTION = re.compile(r'(CONFIG_\w+)=(y|n|m|-?\d+|0x[0-9a-fA-F]+|"[^"\n]*")')
_NOT_SET = re.compile(r"# (CONFIG_\w+) is not set")


def parse_option(text: str) -> tuple[str, str]:
    """(symbol, value) of "CONFIG_X=y" or "# CONFIG_X is not set"; `n` stands for the latter. Raises ValueError."""
    stripped = text.strip()
    match = _OPTION.fullmatch(stripped)
    if match is not None:
        symbol, value = match[1], match[2]
    else:
        not_set = _NOT_SET.fullmatch(stripped)
        if not_set is None:
            raise ValueError(f'{text!r} is no kernel option; write it as "CONFIG_NAME=y", "CONFIG_NAME=n" or "CONFIG_NAME=100"')
        symbol, value = not_set[1], "n"
    if symbol in _RESERVED:
        raise ValueError(f"{symbol} cannot be set: {_RESERVED[symbol]}")
    if value == "m":
        raise ValueError(f"{symbol}=m: there are no modules in an image; write {symbol}=y")
    return symbol, value


def base_options(version: str) -> dict[str, str]:
    """The options of our base configuration for a kernel version, by symbol."""
    kernel = importlib.resources.files("unikernel.linux") / "kernel"
    series = ".".join(version.split(".")[:2])
    options: dict[str, str] = {}
    for name in ("base.config", f"base-{series}.config"):
        file = kernel / name
        if file.is_file():
            options.update(_read(file.read_text()))
    return options


def _read(text: str) -> dict[str, str]:
    options = {}
    for line in text.splitlines():
        line = line.strip()
        if line and (not line.startswith("#") or _NOT_SET.fullmatch(line)):
            symbol, _, value = line.partition("=")
            options[symbol if value else line.split()[1]] = value or "n"
    return options


@dataclass(frozen=True)
class Configuration:
    """`text` is a complete .config."""

    version: str
    text: str


def configure(
    kconfig: Path, options: Iterable[str], *, environment: Mapping[str, str], make: str, tar: str, scratch: Path
) -> Configuration:
    """Resolves the base configuration with `options` on top. `environment` has the PATH on which make finds the compiler.

    Raises UnikernelError for an option that this kernel does not have, or that does not come out as it was asked for.
    """
    tree = scratch / "kconfig"
    unpack(kconfig, tree, tar=tar)
    version = kernel_version(tree)
    asked = dict(_parse_all(options))
    known = Kconfig(tree, "x86")
    for symbol in sorted(asked):
        if symbol not in known:
            raise UnikernelError(f"kernel_config: there is no option {symbol} in Linux {version}.")
    base = base_options(version)
    fixed = {"CONFIG_CMDLINE_BOOL": "y", "CONFIG_CMDLINE": f'"{COMMAND_LINE_MARKER.decode()}"'}
    # Whatever is on top: what is gone or renamed does not come out, and would not be missed.
    check_known(known, version, {**base, **fixed})
    lines = [_line(*option) for option in {**base, **fixed}.items() if option[0] not in asked]
    # Last, because the last of a choice wins.
    lines += [_line(*option) for option in sorted(asked.items())]
    (scratch / "all.config").write_text("\n".join(lines) + "\n")
    result = subprocess.run(
        [make, "ARCH=x86_64", f"KCONFIG_ALLCONFIG={scratch / 'all.config'}", "allnoconfig"],
        cwd=tree,
        env={**environment, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if result.returncode != 0:
        printed = result.stdout.decode(errors="replace").strip().splitlines()
        raise UnikernelError("The kernel's configuration step failed:\n" + "\n".join(printed[-15:]))
    text = (tree / ".config").read_text()
    _check(known, version, asked or base, _read(text), is_base=not asked)
    return Configuration(version, text)


def check_known(known: Container[str], version: str, symbols: Iterable[str]) -> None:
    """Raise UnikernelError when our own configuration has a symbol that this kernel does not have."""
    unknown = [symbol for symbol in sorted(symbols) if symbol not in known]
    if unknown:
        raise UnikernelError(
            f"The base configuration of unikernel has {', '.join(unknown)}, but Linux {version} has no such option. Point "
            "[unikernel-linux].source to a source of Linux 6.1 or 6.12, or use a version of unikernel that supports this Linux."
        )


def _parse_all(options: Iterable[str]) -> Iterable[tuple[str, str]]:
    for option in options:
        try:
            yield parse_option(option)
        except ValueError as error:
            raise UnikernelError(f"kernel_config: {error}.") from error


def _line(symbol: str, value: str) -> str:
    return f"# {symbol} is not set" if value == "n" else f"{symbol}={value}"


def _check(known: Kconfig, version: str, asked: Mapping[str, str], final: Mapping[str, str], is_base: bool) -> None:
    lost = [symbol for symbol, value in sorted(asked.items()) if final.get(symbol, "n") != value]
    if not lost:
        return
    reasons = []
    for symbol in lost:
        outcome = final.get(symbol, "n")
        reason = known.reason(symbol, asked[symbol], final)
        reasons.append(f"{symbol}={asked[symbol]} comes out as {symbol}={outcome}" + (f" ({reason})" if reason else ""))
    origin = "the base configuration" if is_base else "kernel_config"
    raise UnikernelError(
        f"{origin}: Linux {version} cannot satisfy {', '.join(reasons)}. Add the options that it depends on, or leave it out."
    )
