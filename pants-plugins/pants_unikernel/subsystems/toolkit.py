"""The `unikernel` toolkit as a process: the plain-Python package that does the work inside Pants' sandboxes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pants.backend.python.subsystems.python_tool_base import LockfileRules, PythonToolRequirementsBase
from pants.backend.python.target_types import EntryPoint
from pants.backend.python.util_rules import pex
from pants.backend.python.util_rules.interpreter_constraints import InterpreterConstraints
from pants.backend.python.util_rules.pex import PexRequest, VenvPexProcess
from pants.backend.python.util_rules.pex_requirements import EntireLockfile
from pants.engine.fs import Digest, FileContent
from pants.engine.process import Process, ProcessCacheScope, ProcessExecutionFailure
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel
from pants.util.strutil import softwrap

from pants_unikernel import engine
from pants_unikernel.image_types import Toolkit
from pants_unikernel.util_rules.failures import UnikernelBuildError
from unikernel.package_sources import package_sources

_PACKAGE = "unikernel"


class UnikernelToolkit(PythonToolRequirementsBase):
    options_scope = "unikernel-toolkit"
    name = "unikernel"
    help = softwrap(
        """
        The toolkit that assembles root file systems, compiles library OS kits, links and inspects images.

        Its source comes with the plugin; what it needs from a package index is set here.
        """
    )

    default_version = "pyelftools==0.32"
    default_extra_requirements = [
        "certifi",
        "cryptography>=43",
        "cyclonedx-python-lib>=11.6,<12",
        "license-expression>=30.4",
        "packageurl-python>=0.16",
        "packaging>=23.1",
        "protobuf>=6.31,<7",
        "pynacl>=1.5",
        "pyyaml>=6",
        "qemu.qmp>=0.0.3",
        "securesystemslib>=1.3",
        "spdx-tools>=0.8.3,<0.9",
        "squarify>=0.4.4",
        "strictyaml>=1.7",
        "tzdata",
    ]

    register_interpreter_constraints = True
    default_interpreter_constraints = ["CPython>=3.9,<3.15"]

    default_lockfile_resource = ("pants_unikernel.subsystems", "toolkit.lock")
    lockfile_rules_type = LockfileRules.SIMPLE


def toolkit_sources(*patterns: str) -> list[FileContent]:
    """Return the files of the `unikernel` package that this plugin was installed with, data files included, in a fixed order.

    With `patterns` (globs of paths in the package), only those that match one. Raises ImportError for a pattern that matches none.
    """
    return [FileContent(f"{_PACKAGE}/{path}", content) for path, content in package_sources(*patterns).items()]


@rule(desc="Set up the unikernel toolkit", level=LogLevel.DEBUG)
async def set_up_toolkit(subsystem: UnikernelToolkit) -> Toolkit:
    sources = await engine.create_digest(toolkit_sources())
    request = _on_own_interpreters(
        subsystem.to_pex_request(main=EntryPoint(_PACKAGE), sources=sources), subsystem.interpreter_constraints
    )
    try:
        venv_pex = await engine.build_venv_pex(request)
    except ProcessExecutionFailure as failure:
        reason = missing_distutils(failure.stderr.decode(errors="replace"))
        if reason is None:
            raise
        raise UnikernelBuildError(f"[{subsystem.options_scope}]: {reason}") from failure
    process = await engine.venv_pex_process(VenvPexProcess(venv_pex, description="", extra_env={"LC_ALL": "C.UTF-8"}))
    # The environment's own interpreter, not its `pex` launcher script: that one costs more than many of our steps.
    return Toolkit(replace(process, argv=(venv_pex.python.argv0, "-I")))


def missing_distutils(printed: str) -> str | None:
    """Return what a user can do where PEX printed that its pip found no `distutils`, None for any other failure.

    The pip of the PEX that Pants 2.17 brings imports it. Debian has it in a package of its own, and CPython from 3.12 on not at all.
    """
    if "No module named 'distutils" not in printed:
        return None
    interpreter = re.search(r"Failed to spawn a job for (\S+): ", printed)
    return (
        f"the interpreter that Pants took{f', {interpreter[1]},' if interpreter else ''} has no `distutils`, which the pip of Pants needs. "
        "Install it (on Debian 12: `sudo apt-get install python3-distutils`), or put a CPython from 3.9 to 3.11 that has it on "
        "[python-bootstrap].search_path."
    )


def _on_own_interpreters(request: PexRequest, constraints: InterpreterConstraints) -> PexRequest:
    """With a lockfile, Pants 2.17 leaves the interpreter open where nobody has set an option, or takes one for the repository's own constraints:
    which may not suit the toolkit, and a repository without Python has none.
    """
    if not isinstance(request.requirements, EntireLockfile) or request.interpreter_constraints:
        return request
    return replace(request, interpreter_constraints=constraints)


async def toolkit_process(
    toolkit: Toolkit,
    argv: Iterable[str],
    *,
    description: str,
    input_digests: Iterable[Digest] = (),
    immutable_input_digests: Mapping[str, Digest] | None = None,
    env: Mapping[str, str] | None = None,
    output_files: Iterable[str] = (),
    output_directories: Iterable[str] = (),
    append_only_caches: Mapping[str, str] | None = None,
    cache_scope: ProcessCacheScope = ProcessCacheScope.SUCCESSFUL,
    level: LogLevel = LogLevel.INFO,
    module: str = _PACKAGE,
) -> Process:
    """A process that runs `unikernel ARGV`, or another module of the toolkit.

    Large inputs go to `immutable_input_digests`, which are not copied.
    """
    common = toolkit.process
    return Process(
        (*common.argv, "-m", module, *argv),
        description=description,
        input_digest=await engine.merge_digests([common.input_digest, *input_digests]),
        immutable_input_digests=immutable_input_digests,
        env={**common.env, **(env or {})},
        output_files=output_files,
        output_directories=output_directories,
        append_only_caches={**common.append_only_caches, **(append_only_caches or {})},
        cache_scope=cache_scope,
        # Set here already: to change it later is to make all of a process once more, of which there are thousands.
        remote_cache_speculation_delay_millis=engine.PATIENCE_MILLIS,
        level=level,
    )


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *UnikernelToolkit.rules(), *pex.rules())
