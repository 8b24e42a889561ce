"""`test` for `unikernel_test` and `unikernel_python_tests`: one process that boots the image, keyed by the image, by what is expected of it, by
the toolkit, and by what boots it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Optional

from pants.backend.docker.target_types import DockerImageSourceField
from pants.backend.python.subsystems.pytest import PyTest
from pants.backend.python.subsystems.setup import PythonSetup
from pants.backend.python.target_types import PythonTestSourceField
from pants.backend.python.util_rules import pex_from_targets, python_sources
from pants.core.goals.test import TestDebugRequest, TestFieldSet, TestRequest, TestResult, TestSubsystem
from pants.core.util_rules import config_files, stripped_source_files
from pants.core.util_rules.environments import EnvironmentTarget
from pants.engine.addresses import Address
from pants.engine.env_vars import EnvironmentVarsRequest
from pants.engine.fs import Digest, FileContent
from pants.engine.process import InteractiveProcess, Process, ProcessCacheScope
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.target import Target
from pants.engine.unions import UnionRule
from pants.util.frozendict import FrozenDict
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.cc.toolchain import host_probe, probe_host
from pants_unikernel.image_test_target import (
    SkipUnikernelTestsField,
    UnikernelPythonTestsTestsField,
    UnikernelTestArgsField,
    UnikernelTestConsoleField,
    UnikernelTestConsoleNotField,
    UnikernelTestEnvField,
    UnikernelTestExitStatusField,
    UnikernelTestHttpField,
    UnikernelTestImageField,
    UnikernelTestMemoryField,
    UnikernelTestTcpField,
    UnikernelTestTimeoutField,
    invalid,
)
from pants_unikernel.image_types import BuiltImage, TestsInImage, Toolkit, UnikernelImageFieldSet
from pants_unikernel.linux_types import LinkToolchain
from pants_unikernel.subsystems.run import UnikernelRun
from pants_unikernel.subsystems.test import UnikernelTest
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.debug_file import debug_file_of
from pants_unikernel.util_rules.image import build_image
from pants_unikernel.util_rules.library_os import LibraryOsTargets, describe_library_os
from pants_unikernel.util_rules.lookup import find_one_target, find_program
from pants_unikernel.util_rules.python_tests import python_tests_layer
from unikernel.image_test.expectations import DEFAULT_TIMEOUT, Expectations
from unikernel.library_os.description import LibraryOs

_EXPECTATIONS, _CONSOLE = "expectations.json", "console.log"
# What a test takes besides its time limit: QEMU starts, and is stopped.
_BESIDE_SECONDS = 30


@dataclass(frozen=True)
class UnikernelTestFieldSet(TestFieldSet):
    required_fields = (UnikernelTestImageField, UnikernelTestHttpField)

    image: UnikernelTestImageField
    exit_status: UnikernelTestExitStatusField
    console: UnikernelTestConsoleField
    console_not: UnikernelTestConsoleNotField
    http: UnikernelTestHttpField
    tcp: UnikernelTestTcpField
    timeout: UnikernelTestTimeoutField
    memory: UnikernelTestMemoryField
    args: UnikernelTestArgsField
    env: UnikernelTestEnvField

    @classmethod
    def opt_out(cls, tgt: Target) -> bool:
        return tgt.get(SkipUnikernelTestsField).value

    def expectations(self, timeout: Optional[float]) -> Expectations:
        """Without what only the image can tell."""
        return Expectations(
            name=self.address.spec,
            exit_status=self.exit_status.value,
            console=tuple(self.console.value or ()),
            console_not=tuple(self.console_not.value or ()),
            http=self.http.value,
            tcp=self.tcp.value,
            timeout=timeout,
            memory=self.memory.value,
            args=tuple(self.args.value or ()),
            env=tuple(sorted((self.env.value or {}).items())),
        )


@dataclass(frozen=True)
class UnikernelPythonTestsFieldSet(TestFieldSet):
    required_fields = (UnikernelTestImageField, UnikernelPythonTestsTestsField)

    image: UnikernelTestImageField
    tests: UnikernelPythonTestsTestsField
    timeout: UnikernelTestTimeoutField
    memory: UnikernelTestMemoryField
    env: UnikernelTestEnvField

    @classmethod
    def opt_out(cls, tgt: Target) -> bool:
        return tgt.get(SkipUnikernelTestsField).value


class UnikernelTestRequest(TestRequest):
    tool_subsystem = UnikernelTest
    field_set_type = UnikernelTestFieldSet
    supports_debug = True


class UnikernelPythonTestsRequest(TestRequest):
    tool_subsystem = UnikernelTest
    field_set_type = UnikernelPythonTestsFieldSet
    supports_debug = True


@dataclass(frozen=True)
class TestEnvironment:
    """What every test is run with."""

    test: TestSubsystem
    options: UnikernelTest
    run: UnikernelRun
    toolkit: Toolkit
    library_oses: LibraryOsTargets
    environment: EnvironmentTarget

    __test__ = False

    def timeout(self, field: UnikernelTestTimeoutField) -> Optional[int]:
        """In seconds."""
        if not self.test.timeouts:
            return None
        seconds = field.calculate_from_global_options(self.test)
        if seconds is None:
            seconds = min(DEFAULT_TIMEOUT, self.test.timeout_maximum or DEFAULT_TIMEOUT)
        return seconds


@dataclass(frozen=True)
class Monitor:
    """The program that boots an image. `fingerprint` stands for it."""

    path: str
    fingerprint: str


async def _image_of(field: UnikernelTestImageField) -> UnikernelImageFieldSet:
    target = await find_one_target(field)
    if not UnikernelImageFieldSet.is_applicable(target):
        raise invalid(field.alias, field.address, f"{target.address} is a `{target.alias}`; name a `unikernel_image`")
    return UnikernelImageFieldSet.create(target)


async def _knows_ports(image: UnikernelImageFieldSet) -> bool:
    """Whether the image's ports are those of its target: a Docker image says otherwise which it listens on."""
    if image.ports.ports:
        return True
    return not (await find_one_target(image.app)).has_field(DockerImageSourceField)


async def _checked(
    expectations: Expectations, address: Address, image: UnikernelImageFieldSet, library_os: LibraryOs
) -> Expectations:
    """Before anything is built. Raises InvalidFieldException for what such an image cannot be asked."""
    ports = image.ports.ports if await _knows_ports(image) else None
    try:
        return expectations.for_image(library_os, ports, has_network=image.network.value != "none")
    except ValueError as error:
        field, _, reason = str(error).partition(": ")
        raise invalid(field, address, reason) from error


async def _find_monitor(address: Address, library_os: LibraryOs, environment: TestEnvironment) -> Monitor:
    """What boots images of the library OS, found as other programs are. Raises UnikernelBuildError when it is not there."""
    machines = library_os.machines
    program = environment.run.vmm or machines.get(environment.run.machine or "", next(iter(machines.values()))).program
    variables = await engine.environment_variables(EnvironmentVarsRequest(["PATH"]))
    directory, name = os.path.split(program)
    what = f"{address}: {program}, which boots images of {library_os.name},"
    path = await find_program(name, {"PATH": directory} if directory else variables, what, "install it")
    searched = variables.get("PATH", os.defpath).split(os.pathsep)
    fingerprint = await probe_host(
        await host_probe(searched, environment.environment.executable_search_path_cache_scope()),
        ["files", path],
        search_path=searched,
        description=f"Fingerprint {path}",
    )
    return Monitor(path, fingerprint)


async def _booted(field_set: UnikernelImageFieldSet, image: BuiltImage, environment: TestEnvironment) -> Digest:
    """The image, and its debug file if it has one: for what is said of a crash."""
    digest = await engine.part_of(image.digest, [image.path])
    if "debug" not in field_set.formats.value:
        return digest
    return await engine.merge_digests([digest, (await debug_file_of(field_set, image, environment.toolkit)).digest])


async def _test_process(
    address: Address,
    expectations: Expectations,
    field_set: UnikernelImageFieldSet,
    image: BuiltImage,
    monitor: Monitor,
    environment: TestEnvironment,
    *,
    is_debug: bool = False,
) -> Process:
    booted = await _booted(field_set, image, environment)
    document = await engine.create_digest([FileContent(_EXPECTATIONS, expectations.to_json().encode())])
    report = f"{address.path_safe_spec}.xml"
    shown = ["--follow"] if is_debug else [f"--lines={environment.options.console_lines}"]
    process = await toolkit_process(
        environment.toolkit,
        [
            "test",
            image.path,
            f"--expect={_EXPECTATIONS}",
            f"--accel={environment.run.accel.value}",
            *([f"--machine={environment.run.machine}"] if environment.run.machine else []),
            f"--vmm={monitor.path}",
            # Of this very build: what it brings along is the repository's own.
            "--trusted",
            *shown,
            *([] if is_debug else [f"--report={report}", f"--console={_CONSOLE}"]),
        ],
        description=f"Boot and test {address}",
        input_digests=[booted, document],
        env={"PATH": os.path.dirname(monitor.path), "UNIKERNEL_TOOLS": monitor.fingerprint},
        output_files=[report, _CONSOLE],
        cache_scope=ProcessCacheScope.PER_SESSION if environment.test.force else ProcessCacheScope.SUCCESSFUL,
        level=LogLevel.DEBUG,
    )
    timeout = None if expectations.timeout is None else int(expectations.timeout) + _BESIDE_SECONDS
    return replace(process, timeout_seconds=timeout)


async def _image_test(field_set: UnikernelTestFieldSet, environment: TestEnvironment, *, is_debug: bool = False) -> Process:
    address = field_set.address
    image = await _image_of(field_set.image)
    library_os = (await describe_library_os(image, environment.library_oses)).description
    timeout = None if is_debug else environment.timeout(field_set.timeout)
    expectations = await _checked(field_set.expectations(timeout), address, image, library_os)
    monitor = await _find_monitor(address, library_os, environment)
    built = await build_image(image, environment.library_oses)
    return await _test_process(address, expectations, image, built, monitor, environment, is_debug=is_debug)


@dataclass(frozen=True)
class PythonTools:
    """What images of tests are made with, besides."""

    pytest: PyTest
    python_setup: PythonSetup
    link_toolchain: LinkToolchain


async def _python_tests(
    field_set: UnikernelPythonTestsFieldSet, environment: TestEnvironment, tools: PythonTools, *, is_debug: bool = False
) -> Process:
    address = field_set.address
    image = await _image_of(field_set.image)
    library_os = (await describe_library_os(image, environment.library_oses)).description
    timeout = None if is_debug else environment.timeout(field_set.timeout)
    expectations = await _checked(Expectations(name=address.spec, python_tests=True, timeout=timeout), address, image, library_os)
    tests = [
        target
        for target in await engine.find_targets(field_set.tests.to_unparsed_address_inputs())
        if target.has_field(PythonTestSourceField)
    ]
    if not tests:
        raise invalid(field_set.tests.alias, address, f"{', '.join(field_set.tests.value)} has no `python_tests` in it")
    monitor = await _find_monitor(address, library_os, environment)
    layer = await python_tests_layer(
        address, image, tests, tools.pytest, tools.python_setup, environment.toolkit, tools.link_toolchain
    )
    in_image = TestsInImage(layer, field_set.memory.bytes, FrozenDict(field_set.env.value or {}))
    built = await build_image(image, environment.library_oses, in_image)
    return await _test_process(address, expectations, image, built, monitor, environment, is_debug=is_debug)


async def _result(process: Process, address: Address, environment: TestEnvironment) -> TestResult:
    result = await engine.run_fallible_process(process)
    report = await engine.part_of(result.output_digest, [f"{address.path_safe_spec}.xml"])
    console = await engine.part_of(result.output_digest, [_CONSOLE])
    return TestResult.from_fallible_process_result(
        result,
        address,
        environment.test.output,
        xml_results=await engine.snapshot(report),
        extra_output=await engine.snapshot(console),
    )


@rule
async def gather_test_environment(
    test: TestSubsystem,
    options: UnikernelTest,
    run: UnikernelRun,
    toolkit: Toolkit,
    library_oses: LibraryOsTargets,
    environment: EnvironmentTarget,
) -> TestEnvironment:
    return TestEnvironment(test, options, run, toolkit, library_oses, environment)


@rule
async def gather_python_tools(pytest: PyTest, python_setup: PythonSetup, link_toolchain: LinkToolchain) -> PythonTools:
    return PythonTools(pytest, python_setup, link_toolchain)


@rule(desc="Boot and test unikernel images", level=LogLevel.DEBUG)
async def test_unikernel_image(
    batch: UnikernelTestRequest.Batch[UnikernelTestFieldSet, Any], environment: TestEnvironment
) -> TestResult:
    field_set = batch.single_element
    return await _result(await _image_test(field_set, environment), field_set.address, environment)


@rule(desc="Set up a test of a unikernel image", level=LogLevel.DEBUG)
async def debug_unikernel_image(
    batch: UnikernelTestRequest.Batch[UnikernelTestFieldSet, Any], environment: TestEnvironment
) -> TestDebugRequest:
    process = await _image_test(batch.single_element, environment, is_debug=True)
    return TestDebugRequest(InteractiveProcess.from_process(process))


@rule(desc="Run Pytest in unikernel images", level=LogLevel.DEBUG)
async def test_python_in_unikernel_image(
    batch: UnikernelPythonTestsRequest.Batch[UnikernelPythonTestsFieldSet, Any], environment: TestEnvironment, tools: PythonTools
) -> TestResult:
    field_set = batch.single_element
    return await _result(await _python_tests(field_set, environment, tools), field_set.address, environment)


@rule(desc="Set up Pytest in a unikernel image", level=LogLevel.DEBUG)
async def debug_python_in_unikernel_image(
    batch: UnikernelPythonTestsRequest.Batch[UnikernelPythonTestsFieldSet, Any], environment: TestEnvironment, tools: PythonTools
) -> TestDebugRequest:
    process = await _python_tests(batch.single_element, environment, tools, is_debug=True)
    return TestDebugRequest(InteractiveProcess.from_process(process))


def rules() -> Iterable[Rule | UnionRule]:
    return (
        *collect_rules(),
        *config_files.rules(),
        *pex_from_targets.rules(),
        *python_sources.rules(),
        *stripped_source_files.rules(),
        *UnikernelPythonTestsRequest.rules(),
        *UnikernelTestRequest.rules(),
    )
