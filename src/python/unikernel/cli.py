"""The command `unikernel`. What people use: `inspect`, `ls`, `extract`, `diff`, `size`, `verify`, `run`, `test`, `hypervisor-config`,
`kit` and `publish`. The other commands are the steps of a build, one a process."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from unikernel import __version__
from unikernel.errors import UnikernelError
from unikernel.linux.kit_commands import add_kit_commands, add_kit_steps
from unikernel.linux.steps import add_linux_steps
from unikernel.scratch import scratch_directory

if TYPE_CHECKING:
    from unikernel.image.pack import Packer
    from unikernel.library_os.description import LibraryOs
    from unikernel.signing.verify import Verification

# Modules are imported by the commands that need them: a build runs many short processes.

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, the application's own for `run`, 1 with one line on standard error for a user-fixable error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files are bytes, and not all can be written in the encoding of the output.
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    # Here, and not by argparse, which takes nothing after options for arguments of what comes before them.
    end = words.index("--") if "--" in words else len(words)
    arguments = _parser().parse_args(words[:end])
    if words[end + 1 :]:
        if arguments.command is not _run:
            _parser().error(f"only run takes arguments after --: {' '.join(words[end + 1 :])}")
        arguments.arguments += words[end + 1 :]
    try:
        return arguments.command(arguments)
    except UnikernelError as error:
        print(f"unikernel: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has gone (as in `unikernel inspect IMAGE | head`); Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A file that a user named cannot be read or written.
        print(f"unikernel: {_describe_os_error(error)}", file=sys.stderr)
        return 1
    except UnicodeEncodeError as error:
        print(f"unikernel: {error.object!r} is not UTF-8.", file=sys.stderr)
        return 1


def _path(text: str) -> Path:
    """Return the path of a file that is named on the command line; an empty one would be the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _describe_os_error(error: OSError) -> str:
    """Return one line with the path that the operating system rejected, if it is known, and the reason."""
    reason = error.strerror or str(error)
    return f"{reason}." if error.filename is None else f"{os.fspath(error.filename)!r}: {reason}."


@contextmanager
def _malformed_input(path: Path) -> Iterator[None]:
    """Turn what reading a malformed document from `path` raises into UnikernelError."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise UnikernelError(f"{path} is not what this command reads ({type(error).__name__}: {error}).") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="unikernel", description="Build, inspect, verify and run unikernel images.")
    parser.add_argument("--version", action="version", version=f"unikernel {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command, help: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=help, description=help)
        subparser.set_defaults(command=command)
        return subparser

    _add_inspect(add)
    _add_files(add)
    _add_verify(add)
    _add_run(add)
    _add_test(add)
    _add_hypervisor_config(add)
    add_kit_commands(add)
    _add_rootfs_steps(add)
    add_linux_steps(add)
    add_kit_steps(add)
    _add_link(add)
    _add_stamp(add)
    _add_pack(add)
    _add_debug_file(add)
    _add_container(add)
    _add_package(add)
    _add_deploy_manifests(add)
    _add_publish(add)
    return parser


# --- inspect, verify and run ----------------------------------------------------------------------------------------


def _add_inspect(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("inspect", _inspect, "Print the manifest of an image.")
    parser.add_argument("image", type=_path, metavar="IMAGE")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _inspect(arguments: argparse.Namespace) -> int:
    from unikernel.image import manifest as image_manifest
    from unikernel.image.inspect import describe

    manifest = image_manifest.read_manifest(arguments.image)
    sys.stdout.write(image_manifest.to_json(manifest) if arguments.json else describe(manifest, arguments.image))
    return 0


def _add_files(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("ls", _ls, "List the files in an image.")
    parser.add_argument("image", type=_path, metavar="IMAGE")
    parser.add_argument("path", nargs="?", default="/", metavar="PATH", help="a file, or a directory with all below it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")

    parser = add("extract", _extract, "Copy a file out of an image, to standard output, or anything to a path.")
    parser.add_argument("image", type=_path, metavar="IMAGE")
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("-o", "--output", type=_path, metavar="DESTINATION", help="a new file or directory")

    parser = add(
        "diff", _diff, "Show what is different between two images: files, and what their manifests say. Status 1 if anything is."
    )
    parser.add_argument("images", type=_path, nargs=2, metavar="IMAGE")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")

    parser = add("size", _size, "Show where the bytes of an image go.")
    parser.add_argument("image", type=_path, metavar="IMAGE")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--html", type=_path, metavar="FILE", help="write a treemap, too: one file that needs nothing else")


def _size(arguments: argparse.Namespace) -> int:
    from unikernel.image.size import image_size, treemap

    size = image_size(arguments.image)
    if arguments.html:
        arguments.html.write_text(treemap(size))
    sys.stdout.write(json.dumps(size.whole.to_document(), indent=1) + "\n" if arguments.json else size.to_text())
    return 0


def _ls(arguments: argparse.Namespace) -> int:
    from unikernel.image.files import image_rootfs
    from unikernel.image.listing import list_files

    with image_rootfs(arguments.image) as rootfs:
        files = list_files(rootfs, arguments.path)
    if arguments.json:
        print(json.dumps([file.to_document() for file in files], indent=1))
    else:
        sys.stdout.write("".join(f"{file.to_text()}\n" for file in files))
    return 0


def _extract(arguments: argparse.Namespace) -> int:
    from unikernel.image.files import image_rootfs
    from unikernel.image.listing import copy_file, extract

    with image_rootfs(arguments.image) as rootfs:
        if arguments.output is None:
            copy_file(rootfs, arguments.path, sys.stdout.buffer)
        else:
            count = extract(rootfs, arguments.path, arguments.output)
            print(f"{arguments.output}: {count} {'entry' if count == 1 else 'entries'}", file=sys.stderr)
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from unikernel.image import manifest as image_manifest
    from unikernel.image.files import image_rootfs
    from unikernel.image.listing import changed_fields, changed_files

    one, other = arguments.images
    manifests = [json.loads(image_manifest.to_json(image_manifest.read_manifest(image))) for image in arguments.images]
    fields = list(changed_fields(*manifests))
    with image_rootfs(one) as before, image_rootfs(other) as after:
        files = list(changed_files(before, after))
    if arguments.json:
        print(json.dumps({"manifest": [vars(change) for change in fields], "files": [vars(change) for change in files]}, indent=1))
    else:
        sys.stdout.write("".join(f"{change.to_text()}\n" for change in (*fields, *files)))
    return 1 if fields or files else 0


def _add_verify(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("verify", _verify, "Verify the signatures of images and of what is beside them.")
    parser.add_argument("images", type=_path, nargs="+", metavar="IMAGE")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each image instead of text")
    _add_trust(parser, required=True)


def _add_trust(parser: argparse._ActionsContainer, *, required: bool) -> None:
    parser.add_argument(
        "--key", type=_path, action="append", required=required, metavar="PUB", help="a public key to trust (repeatable)"
    )
    parser.add_argument("--policy", type=_path, metavar="FILE", help="what else is demanded: see docs/signing.md")
    parser.add_argument("--allow-development-keys", action="store_true", help="accept a key that nobody configured")


def _verify(arguments: argparse.Namespace) -> int:
    holds = True
    for result in _verifications(arguments.images, arguments):
        sys.stdout.write(json.dumps(result.to_document()) + "\n" if arguments.json else result.to_text())
        sys.stdout.flush()
        holds = holds and result.holds
    return 0 if holds else 1


def _verifications(images: Sequence[Path], arguments: argparse.Namespace) -> Iterator[Verification]:
    from unikernel.signing.keys import PublicKey
    from unikernel.signing.policy import Policy
    from unikernel.signing.verify import verify_image

    policy = Policy.read(arguments.policy) if arguments.policy else Policy()
    if arguments.allow_development_keys:
        policy = replace(policy, development_keys=True)
    keys = [PublicKey.load(path) for path in arguments.key]
    for image in images:
        yield verify_image(image, keys, policy)


def _add_run(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("run", _run, "Boot an image under QEMU, with its declared memory, CPUs and ports.")
    parser.add_argument("image", type=_path, metavar="IMAGE")
    parser.add_argument("-m", "--memory", help="memory, such as 256M; the image's own by default")
    parser.add_argument("--cpus", type=int, help="the number of CPUs; the image's own by default")
    parser.add_argument(
        "-p",
        "--port",
        action="append",
        metavar="HOST:GUEST",
        help="forward a port of the host (repeatable); replaces the ports that the image declares",
    )
    parser.add_argument("-e", "--env", action="append", default=[], metavar="KEY=VALUE", help="set a variable for the application")
    _add_machine(parser)
    parser.add_argument(
        "--debug", action="store_true", help="wait for gdb before the first instruction, and print the command that attaches it"
    )
    parser.add_argument(
        "--debug-file",
        type=_path,
        metavar="FILE",
        help="with symbols, for --debug and crash reports; by default IMAGE.debug, if it is there",
    )
    parser.add_argument(
        "--log-format",
        choices=("plain", "json"),
        default="plain",
        help="json wraps each line with time, stream and the image's digest",
    )
    _add_trust(parser.add_argument_group("what is demanded of the image before it is booted, if a key is named"), required=False)
    parser.add_argument("arguments", nargs="*", metavar="ARG", help="arguments for the application, after --")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="QEMU's accelerator (default: auto)")
    parser.add_argument("--machine", help="the machine, such as q35; the library OS's own by default")
    parser.add_argument(
        "--vmm", metavar="PROGRAM", help="what boots the image, such as another build of QEMU: a path, or a name on PATH"
    )


def _run(arguments: argparse.Namespace) -> int:
    from unikernel.image.debug_file import find_debug_file
    from unikernel.image.spec import Port, parse_size
    from unikernel.run.foreground import do_nothing, run_image
    from unikernel.run.gdb import debugging
    from unikernel.run.options import RunOptions

    try:
        memory = parse_size(arguments.memory) if arguments.memory else None
        ports = [Port.parse(text) for text in arguments.port] if arguments.port else None
        environment = dict(_variable(text) for text in arguments.env)
    except ValueError as error:
        raise UnikernelError(f"{error}.") from error
    options = RunOptions(
        memory=memory,
        cpus=arguments.cpus,
        ports=ports,
        accelerator=arguments.accel,
        machine=arguments.machine,
        program=arguments.vmm,
        arguments=arguments.arguments,
        environment=environment,
        gdb=arguments.debug,
    )
    debug_file = find_debug_file(arguments.image, arguments.debug_file)
    if arguments.key:
        (result,) = _verifications([arguments.image], arguments)
        if not result.holds:
            raise UnikernelError(f"{arguments.image} is not booted: {'; '.join(result.failures())}.")
        options = replace(options, is_verified=True)
    elif arguments.policy or arguments.allow_development_keys:
        raise UnikernelError("Nothing can be demanded of an image without a key to verify it with: add --key PUB.")
    with debugging(arguments.image, debug_file) if arguments.debug else nullcontext(do_nothing) as on_start:
        return run_image(arguments.image, options, arguments.log_format, on_start, debug_file)


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ValueError(f"{text!r} is no variable; write it as KEY=VALUE")
    return key, value


# --- tests ----------------------------------------------------------------------------------------------------------


def _add_test(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("test", _test, "Boot an image and hold what it does against what is expected of it: see docs/testing.md.")
    parser.add_argument("image", type=_path, metavar="IMAGE")
    parser.add_argument("--expect", type=_path, required=True, metavar="FILE", help="what is expected, in JSON")
    parser.add_argument("--report", type=_path, metavar="FILE", help="write the results there, as JUnit XML")
    parser.add_argument("--console", type=_path, metavar="FILE", help="write the console there")
    parser.add_argument(
        "--lines",
        type=int,
        default=50,
        metavar="NUMBER",
        help="how much of the console's end to print when the test fails (default: 50)",
    )
    parser.add_argument("--follow", action="store_true", help="print the console while the image runs")
    _add_machine(parser)
    parser.add_argument(
        "--trusted",
        action="store_true",
        help="boot an image that brings the description of its library OS along: it is of your own build",
    )


def _test(arguments: argparse.Namespace) -> int:
    from unikernel.image_test.expectations import Expectations
    from unikernel.image_test.runner import run_image_test
    from unikernel.run.options import RunOptions

    outcome = run_image_test(
        arguments.image,
        Expectations.read(arguments.expect),
        RunOptions(accelerator=arguments.accel, machine=arguments.machine, program=arguments.vmm, is_verified=arguments.trusted),
        sys.stdout.buffer if arguments.follow else None,
    )
    for path, content in ((arguments.report, outcome.report), (arguments.console, outcome.console.content)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    sys.stdout.write(outcome.to_text(0 if arguments.follow else arguments.lines))
    return 0 if outcome.holds else 1


# --- hypervisors --------------------------------------------------------------------------------------------------


def _add_hypervisor_config(add: Callable[..., argparse.ArgumentParser]) -> None:
    from unikernel.hypervisors import HYPERVISORS

    parser = add("hypervisor-config", _hypervisor_config, "Write what boots an image under a hypervisor: see docs/hypervisors.md.")
    parser.add_argument("image", type=_path, metavar="IMAGE")
    parser.add_argument("--for", dest="hypervisor", choices=sorted(HYPERVISORS), required=True, help="the hypervisor, or its tool")
    parser.add_argument("-o", "--output", type=_path, metavar="FILE", help="by default beside the image, with its name")
    parser.add_argument("--name", default="", help="of the machine; by default that of the image's target")
    parser.add_argument("--image-path", default="", metavar="PATH", help="where the image is on the machine that boots it")
    parser.add_argument(
        "--attach",
        default="",
        metavar="NAME",
        help="what its network card is attached to there: a tap device (tap0), for xl a bridge (xenbr0), for libvirt a network (default)",
    )


def _hypervisor_config(arguments: argparse.Namespace) -> int:
    from unikernel.hypervisors.configuration import write_configuration
    from unikernel.hypervisors.machine import Choices

    choices = Choices(arguments.name, arguments.image_path, arguments.attach)
    print(write_configuration(arguments.image, arguments.hypervisor, arguments.output, choices))
    return 0


# --- the steps of a root file system ------------------------------------------------------------------------------


def _add_rootfs_steps(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("describe-python", _describe_python, "Describe an installed Python interpreter, by digest.")
    parser.add_argument("--interpreter", type=_path, required=True)
    parser.add_argument("--output", type=_path, required=True)

    parser = add("capture-python", _capture_python, "Copy a described Python interpreter into a directory.")
    parser.add_argument("--description", type=_path, required=True)
    parser.add_argument("--output", type=_path, required=True)

    parser = add("python-layer", _python_layer, "Make the layer of a captured Python interpreter.")
    parser.add_argument("--runtime", type=_path, required=True)
    parser.add_argument("--strip", required=True)
    parser.add_argument("--output", type=_path, required=True)

    parser = add("application-layer", _application_layer, "Make the layer of a packaged application.")
    parser.add_argument("--root", type=_path, required=True, help="the directory that the artifacts are in")
    parser.add_argument("--artifact", action="append", required=True)
    parser.add_argument("--executable")
    parser.add_argument("--runtime", type=_path)
    parser.add_argument("--machine", default="x86_64")
    parser.add_argument("--strip", help="strip the program's symbols with this program")
    parser.add_argument("--output", type=_path, required=True)
    parser.add_argument("--distributions", type=_path, required=True, help="where to write the raw distributions of a PEX")

    parser = add("docker-image-layer", _docker_image_layer, "Make the layer of a Docker image that an engine has.")
    parser.add_argument("--docker", required=True, help="the program, which finds the engine by the environment")
    parser.add_argument("--image-id", required=True, metavar="sha256:DIGEST")
    parser.add_argument("--name", default="", help="what errors call the image; its id by default")
    parser.add_argument("--machine", default="x86_64")
    parser.add_argument("--executable", help="what starts instead of the image's ENTRYPOINT and CMD")
    parser.add_argument("--output", type=_path, required=True)

    parser = add("distributions-layer", _distributions_layer, "Make the layer of an application's distributions.")
    parser.add_argument("--distributions", type=_path, required=True)
    parser.add_argument("--runtime", type=_path, required=True)
    parser.add_argument("--output", type=_path, required=True)

    parser = add("python-tests-layer", _python_tests_layer, "Make the layer that has pytest start instead of a Python application.")
    parser.add_argument(
        "--sources", type=_path, required=True, help="the tests, and what they import, below the application's directory"
    )
    parser.add_argument(
        "--pex", type=_path, action="append", required=True, help="brings distributions; the first that has one counts"
    )
    parser.add_argument("--settings", type=_path, required=True, help="what pytest starts with, in JSON")
    parser.add_argument("--runtime", type=_path, required=True)
    parser.add_argument("--without", action="append", default=[], metavar="WHEEL", help="which the application has (repeatable)")
    parser.add_argument("--output", type=_path, required=True)

    parser = add("files-layer", _files_layer, "Make the layer of the extra files of an image.")
    parser.add_argument("--files", type=_path, required=True)
    parser.add_argument("--root", type=_path, required=True)
    parser.add_argument("--machine", default="x86_64")
    parser.add_argument("--output", type=_path, required=True)

    parser = add("describe-libraries", _describe_libraries, "Find shared libraries on this machine, by digest.")
    parser.add_argument("--needs", type=_path, required=True)
    parser.add_argument("--output", type=_path, required=True)

    parser = add("describe-compiler", _describe_compiler, "Describe what a library OS's compiler links with, by digest.")
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--version-command", action="append", default=[], metavar="WORD")
    parser.add_argument("--flag", action="append", default=[])
    parser.add_argument("--output", type=_path, required=True)

    parser = add("libraries-layer", _libraries_layer, "Make the layer of described shared libraries.")
    parser.add_argument("--description", type=_path, required=True)
    parser.add_argument("--output", type=_path, required=True)


def _describe_python(arguments: argparse.Namespace) -> int:
    from unikernel.host.python import describe_python

    arguments.output.write_text(describe_python(arguments.interpreter).to_json())
    return 0


def _capture_python(arguments: argparse.Namespace) -> int:
    from unikernel.host.python import PythonDescription, capture_python

    with _malformed_input(arguments.description):
        description = PythonDescription.from_json(arguments.description.read_text())
    capture_python(description, arguments.output)
    return 0


def _python_layer(arguments: argparse.Namespace) -> int:
    from unikernel.rootfs.python_runtime import PythonRuntime, build_runtime_layer

    with scratch_directory() as scratch:
        layer, index = build_runtime_layer(PythonRuntime.load(arguments.runtime), Path(scratch), arguments.strip)
        layer.write(arguments.output, index)
    return 0


def _application_layer(arguments: argparse.Namespace) -> int:
    from unikernel.rootfs.application import build_application
    from unikernel.rootfs.python_runtime import PythonRuntime

    with scratch_directory() as scratch:
        application = build_application(
            arguments.root,
            arguments.artifact,
            executable=arguments.executable,
            runtime=PythonRuntime.load(arguments.runtime) if arguments.runtime else None,
            machine=arguments.machine,
            strip=arguments.strip,
            scratch=Path(scratch),
        )
        application.index.facts["start"] = vars(application.start)
        application.layer.write(arguments.output, application.index)
        _warn_uncompiled(application.index.facts.get("uncompiled", ()))
        if application.distributions is not None:
            from unikernel.rootfs.raw_distributions import pack_distributions

            raw = application.distributions
            pack_distributions(raw.directory, raw.interpreter_constraints, arguments.distributions)
    return 0


def _warn_uncompiled(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"unikernel: not compiled, so importing it will fail: {line}", file=sys.stderr)


def _docker_image_layer(arguments: argparse.Namespace) -> int:
    from unikernel.rootfs.docker_image import build_docker_application, save_docker_image

    with scratch_directory() as scratch:
        archive = Path(scratch, "image.tar")
        save_docker_image(arguments.docker, arguments.image_id, archive)
        application = build_docker_application(
            archive,
            image_id=arguments.image_id,
            machine=arguments.machine,
            executable=arguments.executable,
            scratch=Path(scratch),
            name=arguments.name,
        )
        application.layer.write(arguments.output, application.index)
    for warning in application.warnings:
        print(f"unikernel: {arguments.name or arguments.image_id}: {warning}", file=sys.stderr)
    return 0


def _distributions_layer(arguments: argparse.Namespace) -> int:
    from unikernel.rootfs.distributions import build_distributions_layer
    from unikernel.rootfs.python_runtime import PythonRuntime

    with scratch_directory() as scratch:
        layer, index = build_distributions_layer(arguments.distributions, PythonRuntime.load(arguments.runtime), Path(scratch))
        layer.write(arguments.output, index)
    for name, files in index.facts["replaced"].items():
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        print(
            f"unikernel: {name} brings files that another distribution brings otherwise, and that one's are used: "
            f"{', '.join(files[:3])}{more}",
            file=sys.stderr,
        )
    return 0


def _python_tests_layer(arguments: argparse.Namespace) -> int:
    from unikernel.rootfs.python_runtime import PythonRuntime
    from unikernel.rootfs.python_tests import PytestSettings, build_python_tests_layer

    with _malformed_input(arguments.settings):
        settings = PytestSettings.read(arguments.settings)
    with scratch_directory() as scratch:
        layer, index = build_python_tests_layer(
            arguments.sources,
            arguments.pex,
            settings,
            PythonRuntime.load(arguments.runtime),
            arguments.without,
            Path(scratch),
        )
        layer.write(arguments.output, index)
    return 0


def _files_layer(arguments: argparse.Namespace) -> int:
    from unikernel.rootfs.files import build_files_layer, read_placed_files

    with _malformed_input(arguments.files):
        files = read_placed_files(arguments.files)
    layer, index = build_files_layer(arguments.root, files, arguments.machine)
    layer.write(arguments.output, index)
    return 0


def _describe_libraries(arguments: argparse.Namespace) -> int:
    from unikernel.host.libraries import describe_libraries

    with _malformed_input(arguments.needs):
        needs = json.loads(arguments.needs.read_text())
        searched = (needs["needs"], needs["loaders"], needs["provides"], needs["machine"])
    description = describe_libraries(*searched, searched=needs.get("searched"))
    arguments.output.write_text(description.to_json())
    return 0


def _describe_compiler(arguments: argparse.Namespace) -> int:
    from unikernel.host.compiler import describe_compiler

    with scratch_directory() as scratch:
        description = describe_compiler(
            arguments.compiler, arguments.flag, Path(scratch), version_command=arguments.version_command
        )
        arguments.output.write_text(description.to_json())
    return 0


def _libraries_layer(arguments: argparse.Namespace) -> int:
    from unikernel.host.libraries import LibrariesDescription, capture_libraries

    with _malformed_input(arguments.description):
        description = LibrariesDescription.from_json(arguments.description.read_text())
    layer, index = capture_libraries(description)
    layer.write(arguments.output, index)
    return 0


# --- the final link -----------------------------------------------------------------------------------------------


def _add_link(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("link", _link, "Link a kit and the layers of a root file system into a bootable image.")
    parser.add_argument("--spec", type=_path, required=True, help="what the image is to be, in JSON")
    parser.add_argument("--kit", type=_path, required=True)
    parser.add_argument("--init", type=_path, required=True)
    parser.add_argument("--layer", type=_path, action="append", default=[])
    parser.add_argument("--assembler", default="as")
    parser.add_argument("--linker", default="ld")
    parser.add_argument("--output", type=_path, required=True)
    parser.add_argument("--quiet", action="store_true", help="do not print the image's path, size and SHA-256")


def _link(arguments: argparse.Namespace) -> int:
    from unikernel.digests import file_sha256
    from unikernel.image.link import link_image
    from unikernel.image.spec import ImageSpec
    from unikernel.linux.kit import Kit

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory() as scratch:
        link_image(
            ImageSpec.read(arguments.spec),
            kit=Kit.load(arguments.kit),
            init=arguments.init,
            layers=arguments.layer,
            output=arguments.output,
            scratch=Path(scratch),
            assembler=arguments.assembler,
            linker=arguments.linker,
        )
    if not arguments.quiet:
        output = arguments.output
        print(json.dumps({"path": str(output), "size": output.stat().st_size, "sha256": file_sha256(output)}))
    return 0


def _add_stamp(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("stamp", _stamp, "Put the manifest into an image that a library OS's own linker made.")
    parser.add_argument("--spec", type=_path, required=True, help="what the image is to be, in JSON")
    parser.add_argument("--program", type=_path, required=True)
    parser.add_argument("--version", required=True, help="of the library OS")
    parser.add_argument("--description", type=_path, help="the library OS's; one of those that come along by default")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=SHA256", help="something else that went in (repeatable)"
    )
    parser.add_argument("--objcopy", required=True)
    parser.add_argument("--output", type=_path, required=True)


def _stamp(arguments: argparse.Namespace) -> int:
    from unikernel.image.spec import ImageSpec
    from unikernel.image.stamp import stamp_image

    spec = ImageSpec.read(arguments.spec)
    library_os, description = _described(spec.library_os, arguments.description)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory() as scratch:
        stamp_image(
            spec,
            library_os,
            arguments.version,
            program=arguments.program,
            inputs=dict(text.rsplit("=", 1) for text in arguments.input),
            output=arguments.output,
            scratch=Path(scratch),
            objcopy=arguments.objcopy,
            description=description,
        )
    return 0


def _add_pack(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("check-library-os", _check_library_os, "Hold a library OS's kernel and tools against its description.")
    parser.add_argument("name")
    _add_library_os(parser)

    parser = add("pack", _pack, "Pack the layers of a root file system with a library OS's kernel or by its tool.")
    parser.add_argument("--spec", type=_path, required=True, help="what the image is to be, in JSON")
    _add_library_os(parser)
    parser.add_argument("--version", required=True, help="of the library OS")
    parser.add_argument("--layer", type=_path, action="append", default=[])
    parser.add_argument("--output", type=_path, required=True)


def _add_library_os(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--description", type=_path, help="the library OS's; one of those that come along by default")
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FILE", help="the library OS's kernel or one of its tools (repeatable)"
    )


def _described(name: str, file: Path | None) -> tuple[LibraryOs, str]:
    """The library OS, and its description's text, if it does not come along with the toolkit."""
    from unikernel.library_os import described_library_os

    if file is None:
        return described_library_os(name, "", ""), ""
    with _malformed_input(file):
        description = file.read_text(encoding="utf-8")
    return described_library_os(name, description, str(file)), description


def _packer(name: str, arguments: argparse.Namespace, version: str) -> Packer:
    from unikernel.image.pack import Packer
    from unikernel.library_os.inputs import check_inputs

    library_os, description = _described(name, arguments.description)
    inputs = {name: Path(path) for name, path in (text.split("=", 1) for text in arguments.input)}
    check_inputs(library_os, inputs)
    return Packer(library_os, version, inputs, description)


def _check_library_os(arguments: argparse.Namespace) -> int:
    _packer(arguments.name, arguments, "")
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    from unikernel.image.pack import pack_image
    from unikernel.image.spec import ImageSpec

    spec = ImageSpec.read(arguments.spec)
    packer = _packer(spec.library_os, arguments, arguments.version)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory() as scratch:
        pack_image(spec, packer, layers=arguments.layer, output=arguments.output, scratch=Path(scratch))
    return 0


# --- debugging information ----------------------------------------------------------------------------------------


def _add_debug_file(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("debug-file", _debug_file, "Write what debuggers need of an image, which has no symbols itself.")
    parser.add_argument("--image", type=_path, required=True)
    made_of = parser.add_mutually_exclusive_group(required=True)
    made_of.add_argument("--kit", type=_path, help="what the image is linked with")
    made_of.add_argument("--symbols", type=_path, metavar="ELF", help="what the image is made of, before it was stripped")
    parser.add_argument("--assembler", default="as")
    parser.add_argument("--linker", default="ld")
    parser.add_argument("--layer", type=_path, action="append", default=[])
    parser.add_argument("--root", type=_path, help="the directory that the application's artifacts are in")
    parser.add_argument("--artifact", action="append", default=[])
    parser.add_argument("--runtime", type=_path)
    parser.add_argument("--output", type=_path, required=True)


def _debug_file(arguments: argparse.Namespace) -> int:
    from unikernel.image.debug_file import programs_with_symbols, write_debug_file
    from unikernel.image.link import link_with_symbols
    from unikernel.linux.kit import Kit
    from unikernel.rootfs.application import stripped_program
    from unikernel.rootfs.python_runtime import PythonRuntime, stripped_files

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    stripped = stripped_files(PythonRuntime.load(arguments.runtime)) if arguments.runtime else {}
    stripped.update(stripped_program(arguments.root, arguments.artifact) if arguments.root else {})
    with scratch_directory() as directory:
        scratch, symbols = Path(directory), arguments.symbols
        if arguments.kit:
            symbols, kit = scratch / "kernel", Kit.load(arguments.kit)
            link_with_symbols(arguments.image, kit, symbols, scratch, assembler=arguments.assembler, linker=arguments.linker)
        programs = programs_with_symbols(arguments.layer, stripped, scratch)
        write_debug_file(arguments.image, arguments.output, symbols=symbols, programs=programs, scratch=scratch)
    return 0


# --- a container image --------------------------------------------------------------------------------------------


def _add_container(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("container", _container, "Make a container image of the layers of a root file system, without a daemon.")
    parser.add_argument("--spec", type=_path, required=True, help="what the unikernel image is to be, in JSON")
    parser.add_argument("--settings", type=_path, required=True, help="what only the container image is to be, in JSON")
    parser.add_argument("--layer", type=_path, action="append", default=[])
    parser.add_argument("--layout", type=_path, required=True, help="the directory to write as an OCI layout")
    parser.add_argument("--archive", type=_path, required=True, help="the file to write for docker load")


def _container(arguments: argparse.Namespace) -> int:
    from unikernel.image.layers import start_and_archives, with_usual_environment
    from unikernel.image.spec import ImageSpec
    from unikernel.oci.container import ContainerSettings, write_container, write_docker_archive
    from unikernel.rootfs.merge import merged_rootfs

    spec = ImageSpec.read(arguments.spec)
    arguments.layout.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory() as scratch:
        spec, start, archives = start_and_archives(spec, arguments.layer, Path(scratch))
        settings = ContainerSettings.read(arguments.settings, spec)
        with merged_rootfs([archive.path for archive in archives]) as rootfs:
            image = write_container(rootfs, with_usual_environment(start), settings, arguments.layout, Path(scratch))
    write_docker_archive(arguments.layout, image, settings.tag, arguments.archive)
    return 0


# --- an OCI package of a unikernel ----------------------------------------------------------------------------------


def _add_package(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("oci-package", _package, "Make an OCI package of an image, for container runtimes that boot unikernels.")
    parser.add_argument("--image", type=_path, required=True)
    parser.add_argument("--settings", type=_path, required=True, help="what the package is to say beside the image, in JSON")
    parser.add_argument("--layout", type=_path, required=True, help="the directory to write as an OCI layout")
    parser.add_argument("--kraftkit", type=_path, help="the directory to write as an OCI layout for KraftKit, for what that knows")


def _package(arguments: argparse.Namespace) -> int:
    from unikernel.oci.unikernel_package import PackageSettings, write_kraftkit_package, write_package

    settings = PackageSettings.read(arguments.settings)
    arguments.layout.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory() as scratch:
        write_package(arguments.image, settings, arguments.layout, Path(scratch))
    if arguments.kraftkit:
        with scratch_directory() as scratch:
            write_kraftkit_package(arguments.image, settings, arguments.kraftkit, Path(scratch))
    return 0


# --- deployment manifests -----------------------------------------------------------------------------------------


def _add_deploy_manifests(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("deploy-manifests", _deploy_manifests, "Write what runs a service in a cluster, as a container or as a unikernel.")
    parser.add_argument("--workload", type=_path, required=True, help="what the service is to be in a cluster, in JSON")
    parser.add_argument("--output", type=_path, required=True, metavar="DIRECTORY")


def _deploy_manifests(arguments: argparse.Namespace) -> int:
    from unikernel.deploy.manifests import write_manifests
    from unikernel.deploy.workload import Workload

    write_manifests(Workload.read(arguments.workload), arguments.output)
    return 0


# --- publishing ---------------------------------------------------------------------------------------------------


def _add_publish(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("publish", _publish, "Push a packaged OCI layout, with its signatures, to registries: see docs/publish.md.")
    parser.add_argument("--layout", type=_path, required=True, help="the directory that was packaged")
    parser.add_argument(
        "--signatures", type=_path, metavar="LAYOUT", help="where what is signed of it is, if not in the layout itself"
    )
    parser.add_argument(
        "--to", action="append", required=True, metavar="HOST[:PORT]/REPOSITORY", help="where to push it (repeatable)"
    )
    parser.add_argument("--tag", action="extend", nargs="+", required=True, help="a tag for it (repeatable)")
    parser.add_argument(
        "--skopeo", default="skopeo", metavar="PATH", help="the program that sends images; the one on PATH by default"
    )
    parser.add_argument("--output", type=_path, metavar="FILE", help="write what was published, in JSON")


def _publish(arguments: argparse.Namespace) -> int:
    from unikernel.oci.publish import publish, write_result
    from unikernel.oci.repository import Repository

    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    repositories = [Repository.parse(text) for text in arguments.to]
    published = publish(arguments.layout, repositories, arguments.tag, arguments.skopeo, arguments.signatures)
    if arguments.output:
        write_result(published, arguments.output)
    for image in published:
        print(image.to_text())
    return 0
