"""The one layer more that an image of a Python application needs to run tests: pytest, what the tests import, and the tests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence

from pants.backend.python.subsystems.pytest import PyTest
from pants.backend.python.subsystems.setup import PythonSetup
from pants.backend.python.target_types import PythonTestSourceField
from pants.backend.python.util_rules.pex_from_targets import RequirementsPexRequest
from pants.backend.python.util_rules.python_sources import PythonSourceFilesRequest
from pants.core.util_rules.source_files import SourceFilesRequest
from pants.engine.addresses import Address
from pants.engine.fs import Digest, FileContent
from pants.engine.target import Target

from pants_unikernel import engine
from pants_unikernel.image_types import Toolkit, UnikernelImageFieldSet
from pants_unikernel.linux_types import LinkToolchain
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules.failures import UnikernelBuildError, run_step
from pants_unikernel.util_rules.rootfs import (
    LaidOutApplication,
    application_layers,
    lay_out_application,
    package_app,
)

_SOURCES, _SETTINGS, _RUNTIME = "sources", "settings.json", "__python"
# In the application's directory, where nothing else is called like that.
_CONFIG = ".pytest"


def pytest_arguments(pytest: PyTest, files: Iterable[str], config: str | None) -> tuple[str, ...]:
    """Pytest's, in an image: in the application's directory. `config` is a path there. Its terminal is a console without colours, and its
    cache would be gone with the image.
    """
    return (
        *(("-c", config) if config else ()),
        "--rootdir=.",
        *pytest.args,
        "--color=no",
        "-p",
        "no:cacheprovider",
        "-o",
        f"junit_family={pytest.junit_family}",
        *files,
    )


def nearest(configs: Iterable[str], directories: Iterable[str]) -> str | None:
    """Of configuration files by path the one that pytest takes for tests in some directories: of those above all of them, the deepest; in
    one directory, by its own order.
    """
    order = ("pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
    directories = [f"{directory}/" if directory else "" for directory in directories]

    def is_above(config: str) -> bool:
        parent = os.path.dirname(config)
        return not parent or all(directory.startswith(f"{parent}/") for directory in directories)

    found = sorted(
        (config for config in configs if is_above(config) and os.path.basename(config) in order),
        key=lambda config: (-len(os.path.dirname(config)), order.index(os.path.basename(config))),
    )
    return found[0] if found else None


async def _config(pytest: PyTest, tests: Sequence[Target]) -> tuple[Digest, str | None]:
    """Pytest's configuration as Pants finds it, and its path among what is laid out."""
    directories = sorted({target.address.spec_path for target in tests})
    files = (await engine.find_config_files(pytest.config_request(directories))).snapshot
    chosen = pytest.config or nearest(files.files, directories)
    if chosen is None:
        return await engine.create_digest([]), None
    return await engine.add_prefix(await engine.part_of(files.digest, [chosen]), _CONFIG), os.path.join(_CONFIG, chosen)


async def _own_distributions(application: LaidOutApplication, origin: str, toolkit: Toolkit) -> list[str]:
    """The file names of the wheels that the application has."""
    layers = [layer for layer in await application_layers(application, origin, toolkit) if layer.name == "distributions"]
    return [name for index in await engine.read_layer_indexes(layers) for name in index.facts["distributions"]]


async def python_tests_layer(
    origin: Address,
    image: UnikernelImageFieldSet,
    tests: Sequence[Target],
    pytest: PyTest,
    python_setup: PythonSetup,
    toolkit: Toolkit,
    toolchain: LinkToolchain,
) -> Digest:
    """The archive and the index of a layer "tests". `origin` is whose problem a failure is.

    Raises UnikernelBuildError for an image without Python in it.
    """
    app = await package_app(image.app, python_setup)
    application = None
    if app.constraints is not None:
        application = await lay_out_application(app, image.executable.value, str(image.address), toolkit, toolchain)
    if application is None or application.runtime is None or app.constraints is None:
        raise UnikernelBuildError(
            f"{origin}: the `image` field names {image.address}, whose application {app.target.address}, a `{app.target.alias}`, is no "
            "Python application: pytest runs in images of those, such as a `pex_binary`."
        )
    addresses = [target.address for target in tests]
    closure = await engine.transitive_targets(addresses)
    sources = (await engine.stripped_python_sources(PythonSourceFilesRequest(closure.closure, include_files=True))).snapshot
    pytest_pex = await engine.build_pex(pytest.to_pex_request(interpreter_constraints=app.constraints))
    requirements = await engine.build_requirements_pex(
        RequirementsPexRequest(addresses, hardcoded_interpreter_constraints=app.constraints)
    )
    files = await engine.stripped_source_files(SourceFilesRequest(target[PythonTestSourceField] for target in tests))
    config, config_path = await _config(pytest, tests)
    arguments = pytest_arguments(pytest, files.snapshot.files, config_path)
    digests = [
        await engine.add_prefix(sources.digest, _SOURCES),
        await engine.add_prefix(config, _SOURCES),
        pytest_pex.digest,
        requirements.digest,
        await engine.create_digest([FileContent(_SETTINGS, json.dumps({"arguments": arguments}).encode())]),
    ]
    process = await toolkit_process(
        toolkit,
        [
            "python-tests-layer",
            f"--sources={_SOURCES}",
            f"--pex={requirements.name}",
            f"--pex={pytest_pex.name}",
            f"--settings={_SETTINGS}",
            f"--runtime={_RUNTIME}",
            *(f"--without={name}" for name in await _own_distributions(application, str(origin), toolkit)),
            "--output=tests.cpio",
        ],
        description=f"Lay out the tests of {origin}",
        input_digests=digests,
        immutable_input_digests={_RUNTIME: application.runtime.digest},
        output_files=["tests.cpio", "tests.json"],
    )
    return (await run_step(process, str(origin))).output_digest
