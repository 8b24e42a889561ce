"""The steps that make a Linux kit and PID 1, as commands.

They need the standard library only, and each imports only the modules that it needs: a build system can give it just those, so that
nothing else that changes in the toolkit compiles a kernel again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from unikernel.errors import UnikernelError
from unikernel.scratch import scratch_directory


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m unikernel.linux")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=help, description=help)
        subparser.set_defaults(command=command)
        return subparser

    add_linux_steps(add)
    arguments = parser.parse_args(argv)
    try:
        return arguments.command(arguments)
    except UnikernelError as error:
        print(f"unikernel: {error}", file=sys.stderr)
        return 1


def add_linux_steps(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("describe-kernel-source", _describe_kernel_source, "Find the kernel's source, and say its digest.")
    parser.add_argument("--cache", type=Path, required=True, help="a directory that remembers digests of unchanged files")
    parser.add_argument("patterns", nargs="+", metavar="PATTERN")

    parser = add("pack-kconfig", _pack_kconfig, "Pack what Kconfig needs of a kernel's source.")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--tar", required=True)
    parser.add_argument("--output", type=Path, required=True)

    parser = add("configure-kernel", _configure_kernel, "Resolve and check a kernel configuration.")
    parser.add_argument("--kconfig", type=Path, required=True)
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--make", required=True)
    parser.add_argument("--tar", required=True)
    parser.add_argument("--output", type=Path, required=True)

    parser = add("build-kit", _build_kit, "Compile a kernel into a linkable kit.")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--jobs", type=int, help="how many compilers run at a time; one a core by default")
    parser.add_argument("--make", required=True)
    parser.add_argument("--tar", required=True)
    parser.add_argument("--output", type=Path, required=True)

    parser = add("build-init", _build_init, "Compile PID 1.")
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--output", type=Path, required=True)


def _describe_kernel_source(arguments: argparse.Namespace) -> int:
    from unikernel.linux.source import describe_source

    json.dump(describe_source(arguments.patterns, arguments.cache), sys.stdout)
    return 0


def _pack_kconfig(arguments: argparse.Namespace) -> int:
    from unikernel.linux.source import pack_kconfig

    with scratch_directory() as scratch:
        pack_kconfig(arguments.source, arguments.output, tar=arguments.tar, scratch=Path(scratch))
    return 0


def _configure_kernel(arguments: argparse.Namespace) -> int:
    from unikernel.linux.configuration import configure

    with scratch_directory() as scratch:
        configuration = configure(
            arguments.kconfig,
            arguments.option,
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            make=arguments.make,
            tar=arguments.tar,
            scratch=Path(scratch),
        )
    arguments.output.write_text(configuration.text)
    return 0


def _build_kit(arguments: argparse.Namespace) -> int:
    from unikernel.linux.kit import build_kit
    from unikernel.progress import Progress

    with scratch_directory() as scratch:
        build_kit(
            arguments.source,
            arguments.config,
            arguments.output,
            jobs=arguments.jobs or len(os.sched_getaffinity(0)),
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            make=arguments.make,
            tar=arguments.tar,
            scratch=Path(scratch),
            progress=Progress.from_environment(),
        )
    return 0


def _build_init(arguments: argparse.Namespace) -> int:
    from unikernel.linux.pid1 import build_init

    with scratch_directory() as scratch:
        build_init(
            arguments.compiler,
            arguments.output,
            environment={"PATH": os.environ.get("PATH", os.defpath)},
            scratch=Path(scratch),
        )
    return 0
