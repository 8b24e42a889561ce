"""The commands `unikernel kit ...`, and the two steps of a build that pack and unpack kits: see
docs/kit.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from unikernel.errors import UnikernelError

if TYPE_CHECKING:
    from unikernel.linux.kit_store import StoredKit, Trust
    from unikernel.signing.keys import PrivateKey

_PASSWORD_VARIABLE = "COSIGN_PASSWORD"


def add_kit_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    def nothing(arguments: argparse.Namespace) -> int:
        raise AssertionError("a subcommand is required")

    kit = add("kit", nothing, "Export, import and inspect prebuilt kernel kits, for machines without a compiler.")
    commands = kit.add_subparsers(metavar="COMMAND", required=True)

    def add_kit(name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=help, description=help)
        parser.set_defaults(command=command)
        return parser

    _add_export(add_kit)
    _add_import(add_kit)
    parser = add_kit("list", _list, "List the kits that were imported. Status 1 if one of them is not valid.")
    _add_directory(parser)
    _add_trust(parser, required=False)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each kit instead of text")
    parser = add_kit("inspect", _inspect, "Print what is in a kit, and verify its signature if a key is named.")
    parser.add_argument("archive", type=Path, metavar="ARCHIVE")
    _add_trust(parser, required=False)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_kit_steps(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("pack-kit", _pack, "Pack a kit and PID 1 into an archive, unsigned.")
    _add_parts(parser)
    parser.add_argument("--development-key", action="store_true", help="record that a development key signs it")
    parser.add_argument("--output", type=Path, required=True)

    parser = add("unpack-kit", _unpack, "Verify the archive of a kit, and unpack it.")
    parser.add_argument("archive", type=Path, metavar="ARCHIVE")
    _add_trust(parser, required=True)
    parser.add_argument("--expect", required=True, metavar="CACHE-KEY", help="the cache key that it has to have")
    parser.add_argument("--kit", type=Path, required=True, help="the directory to write the kit to")
    parser.add_argument("--init", type=Path, required=True, help="the file to write PID 1 to")


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kit", type=Path, required=True, help="the directory of a kit, as build-kit writes it")
    parser.add_argument("--init", type=Path, required=True, help="PID 1's program, as build-init writes it")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="CONFIG_X=y",
        help="a kernel option that the kit was configured with, on top of the base configuration (repeatable)",
    )


def _add_trust(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--key", type=Path, action="append", required=required, metavar="PUB", help="a public key that may sign kits (repeatable)"
    )
    parser.add_argument("--allow-development-keys", action="store_true", help="accept a key that nobody configured")


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--directory", type=Path, help="where imported kits are; by default unikernel/kits below XDG_DATA_HOME or ~/.local/share"
    )


def _directory(arguments: argparse.Namespace) -> Path:
    from unikernel.linux.kit_store import kits_directory

    return arguments.directory or kits_directory(os.environ)


def _trust(arguments: argparse.Namespace) -> Trust:
    from unikernel.linux.kit_store import Trust
    from unikernel.signing.keys import PublicKey

    return Trust([PublicKey.load(path) for path in arguments.key or ()], arguments.allow_development_keys)


# --- export and import ---


def _add_export(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("export", _export, "Pack a compiled kit and PID 1 into a signed archive.")
    _add_parts(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="PATH", help="a file, or a directory to write CACHE-KEY.kit to"
    )
    signer = parser.add_mutually_exclusive_group(required=True)
    signer.add_argument("--sign-key", type=Path, metavar="KEY", help="the private key that signs it")
    signer.add_argument("--sign-with-development-key", action="store_true", help="sign it with this user's development key")
    parser.add_argument(
        "--password-env",
        default=_PASSWORD_VARIABLE,
        metavar="NAME",
        help=f"the environment variable with the password of an encrypted key (default: {_PASSWORD_VARIABLE})",
    )


def _signer(arguments: argparse.Namespace) -> PrivateKey:
    from unikernel.signing.development_key import development_key_path, load_development_key
    from unikernel.signing.keys import PasswordNeeded, PrivateKey

    if arguments.sign_key is None:
        return load_development_key(development_key_path(os.environ))
    password = os.environb.get(os.fsencode(arguments.password_env))
    try:
        return PrivateKey.load(arguments.sign_key, password)
    except PasswordNeeded as error:
        raise UnikernelError(f"{error} Set the environment variable {arguments.password_env}.") from error


def _export(arguments: argparse.Namespace) -> int:
    from unikernel.linux.kit_store import Trust, export_kit, verify_kit

    signer = _signer(arguments)
    development_key = arguments.sign_key is None
    archive = export_kit(arguments.kit, arguments.init, arguments.option, arguments.output, signer, development_key=development_key)
    stored = verify_kit(archive, Trust([signer.public], development_key))
    sys.stdout.write(f"{archive}\n{describe_kit(stored)}")
    return 0


def _add_import(add: Callable[..., argparse.ArgumentParser]) -> None:
    parser = add("import", _import, "Verify a kit, and put it where builds look for kits.")
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="with ARCHIVE.sigstore.json beside it")
    _add_trust(parser, required=True)
    _add_directory(parser)
    parser.add_argument("--expect", metavar="CACHE-KEY", help="reject a kit with another cache key")


def _import(arguments: argparse.Namespace) -> int:
    from unikernel.linux.kit_store import import_kit

    path, stored = import_kit(arguments.archive, _directory(arguments), _trust(arguments), expected=arguments.expect)
    sys.stdout.write(f"{path}\n{describe_kit(stored)}")
    if stored.contents.document.differences:
        print(
            f"unikernel: {path} was exported by another version of unikernel, and is not used by this one. Export it again with this "
            "version.",
            file=sys.stderr,
        )
    return 0


# --- what is there ---


def _look_at(archive: Path, arguments: argparse.Namespace) -> StoredKit:
    from unikernel.linux.kit_store import inspect_kit, verify_kit

    return verify_kit(archive, _trust(arguments)) if arguments.key else inspect_kit(archive)


def _list(arguments: argparse.Namespace) -> int:
    from unikernel.linux.kit_store import kits_in

    status = 0
    for archive in kits_in(_directory(arguments)):
        try:
            stored = _look_at(archive, arguments)
        except UnikernelError as error:
            print(f"unikernel: {error}", file=sys.stderr)
            status = 1
            continue
        if arguments.json:
            print(json.dumps({"path": str(archive), **_document(stored)}, sort_keys=True))
        else:
            sys.stdout.write(f"{archive}\n{describe_kit(stored)}")
    return status


def _inspect(arguments: argparse.Namespace) -> int:
    stored = _look_at(arguments.archive, arguments)
    if arguments.json:
        document = {**_document(stored), **stored.contents.document.to_json()}
        print(json.dumps({"path": str(arguments.archive), **document}, indent=1, sort_keys=True))
        return 0
    facts = stored.contents.facts
    sys.stdout.write(f"{arguments.archive}\n{describe_kit(stored)}")
    print(f"  kernel source: SHA-256 {facts.source_sha256}")
    print(f"  kernel configuration: SHA-256 {facts.config_sha256}")
    for name, version in sorted(facts.tools.items()):
        print(f"  {name}: {version}")
    for member in stored.contents.document.members:
        print(f"  {member.name}: {member.size} bytes, SHA-256 {member.sha256}")
    print(f"  licenses: {stored.contents.document.licenses}")
    return 0


def describe_kit(stored: StoredKit) -> str:
    """Return what a user has to know of a kit, in lines with a newline each."""
    document, facts = stored.contents.document, stored.contents.facts
    kind = "the development key" if document.development_key else "the key"
    lines = [
        f"{stored.size / 10**6:.1f} MB, SHA-256 {stored.sha256}",
        f"Linux {facts.version}, cache key {stored.key}, {describe_options(document.ingredients.kernel_options)}",
        f"signed by {kind} {stored.signer.fingerprint}" if stored.signer else "signature: not verified, for no key is named",
    ]
    if document.differences:
        lines.append(f"not used by this version of unikernel, which has another {', another '.join(document.differences)}")
    return "".join(f"  {line}\n" for line in lines)


def describe_options(options: tuple[str, ...]) -> str:
    return f"the base configuration with {', '.join(options)}" if options else "the base configuration"


def _document(stored: StoredKit) -> dict[str, Any]:
    document, facts = stored.contents.document, stored.contents.facts
    return {
        "development_key": document.development_key,
        "differences": document.differences,
        "kernel_options": list(document.ingredients.kernel_options),
        "key": stored.key,
        "sha256": stored.sha256,
        "signer": stored.signer.fingerprint if stored.signer else None,
        "size": stored.size,
        "source_sha256": facts.source_sha256,
        "tools": facts.tools,
        "version": facts.version,
    }


# --- steps of a build ---


def _pack(arguments: argparse.Namespace) -> int:
    from unikernel.linux.kit_archive import write_archive
    from unikernel.linux.kit_key import key_ingredients

    ingredients = key_ingredients(arguments.option)
    write_archive(arguments.kit, arguments.init, ingredients, arguments.output, development_key=arguments.development_key)
    return 0


def _unpack(arguments: argparse.Namespace) -> int:
    from unikernel.linux.kit_store import unpack_kit

    stored = unpack_kit(arguments.archive, _trust(arguments), arguments.expect, arguments.kit, arguments.init)
    print(json.dumps(_document(stored), sort_keys=True))
    return 0
