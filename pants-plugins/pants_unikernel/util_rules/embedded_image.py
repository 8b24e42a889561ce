"""An image whose root file system goes into a kernel that is compiled for it: package, lay out, link."""

from __future__ import annotations

from collections.abc import Iterable

from pants.backend.python.subsystems.setup import PythonSetup
from pants.engine.process import Process
from pants.engine.rules import Rule, collect_rules, rule
from pants.engine.unions import UnionRule
from pants.util.logging import LogLevel

from pants_unikernel import engine
from pants_unikernel.image_types import (
    BuiltImage,
    EmbeddedImageRequest,
    LinuxParts,
    LinuxPartsRequest,
    Toolkit,
    UnikernelImageFieldSet,
)
from pants_unikernel.linux_types import LinkToolchain
from pants_unikernel.subsystems.linux import UnikernelLinux
from pants_unikernel.subsystems.toolkit import toolkit_process
from pants_unikernel.util_rules import linux_kit
from pants_unikernel.util_rules.debug_file import rootfs_debug_inputs
from pants_unikernel.util_rules.failures import UnikernelBuildError, errors_of, run_step, run_steps
from pants_unikernel.util_rules.image import built_image, image_spec, spec_file
from pants_unikernel.util_rules.linux_kit import linux_parts
from pants_unikernel.util_rules.prebuilt_kits import INIT, KIT
from pants_unikernel.util_rules.rootfs import PlacedLayers, package_app, place_layers, rootfs_layers
from pants_unikernel.util_rules.sbom import sbom_process
from unikernel import __version__
from unikernel.image.components import layer_inputs, listed_components
from unikernel.image.limits import check_linkable, choose_memory
from unikernel.image.spec import ImageSpec
from unikernel.linux.configuration import parse_option
from unikernel.sbom.inventory import Inventory
from unikernel.signing.files import manifest_path

_KIT_INPUT = "__kit"
_NETWORK_OPTIONS = ("CONFIG_NET", "CONFIG_INET")
_LINK_PROGRAMS = (("assembler", "as"), ("linker", "ld"))


def kernel_options(field_set: UnikernelImageFieldSet, linux: UnikernelLinux) -> list[str]:
    """The options on top of the base configuration, in one canonical form: their order and repetition do not matter."""
    options: dict[str, str] = {}
    for text in linux.kernel_config:
        try:
            symbol, value = parse_option(text)
        except ValueError as error:
            raise UnikernelBuildError(f"[unikernel-linux].kernel_config: {error}.") from error
        options[symbol] = value
    options.update(parse_option(text) for text in field_set.kernel_config.value or ())
    if field_set.cpus.value > 1 and options.setdefault("CONFIG_SMP", "y") != "y":
        raise UnikernelBuildError(
            f"{field_set.address}: `cpus` is {field_set.cpus.value}, and `kernel_config` switches off what more than one CPU needs: "
            "leave CONFIG_SMP out."
        )
    network = field_set.network.mode
    off = [symbol for symbol in _NETWORK_OPTIONS if options.get(symbol) == "n"]
    if network != "none" and off:
        raise UnikernelBuildError(
            f"{field_set.address}: `network` is {network!r}, and `kernel_config` switches off {off[0]}, which that needs: leave it out, or set "
            'network="none".'
        )
    return [f"{symbol}={value}" for symbol, value in sorted(options.items())]


async def _link_process(
    description: str,
    image: ImageSpec,
    path: str,
    placed: PlacedLayers,
    parts: LinuxParts,
    toolkit: Toolkit,
    toolchain: LinkToolchain,
) -> Process:
    spec = spec_file(image)
    return await toolkit_process(
        toolkit,
        [
            "link",
            f"--spec={spec.path}",
            f"--kit={_KIT_INPUT}/{KIT}",
            f"--init={INIT}",
            *(f"--layer={path}" for path in placed.paths),
            *(f"--{name}={toolchain.paths[program]}" for name, program in _LINK_PROGRAMS),
            f"--output={path}",
            "--quiet",
        ],
        description=description,
        input_digests=[*placed.digests, parts.init, await engine.create_digest([spec])],
        immutable_input_digests={_KIT_INPUT: parts.kit, **placed.immutable_inputs},
        env=toolchain.environment,
        output_files=[path, manifest_path(path)],
    )


@rule(desc="Build an image with a kernel of its own", level=LogLevel.DEBUG)
async def build_embedded_image(
    request: EmbeddedImageRequest,
    linux: UnikernelLinux,
    python_setup: PythonSetup,
    link_toolchain: LinkToolchain,
) -> BuiltImage:
    field_set = request.field_set
    origin = str(field_set.address)
    options = kernel_options(field_set, linux)
    # Before the application is packaged for this image: what is missing for a kernel is said first.
    toolkit = await engine.find_toolkit_and_linux(LinuxPartsRequest(tuple(options)))
    app = await package_app(field_set.app, python_setup)
    layers = await rootfs_layers(field_set, app, toolkit, link_toolchain, tests=request.tests)
    indexes = await engine.read_layer_indexes(layers)
    spec = image_spec(field_set, request.tests)
    with errors_of(origin):
        # What the link would find out, before a kernel is compiled for it.
        check_linkable(indexes)
        choose_memory(spec.memory, indexes)
    parts = await linux_parts(options, origin)
    path = field_set.output_path.value_or_default(file_ending="elf")
    description = f"Link {origin} with its tests" if request.tests else f"Link {origin}"
    placed = place_layers(layers)
    link = await _link_process(description, spec, path, placed, parts, toolkit, link_toolchain)
    if request.tests:
        return await built_image(path, [(await run_step(link, origin)).output_digest], [])
    inventory = Inventory(origin, [*listed_components(indexes), *parts.components], __version__)
    sbom = await sbom_process(inventory, path, toolkit, indexes, time_zones=spec.timezone is not None)
    results = await run_steps([link, sbom], origin)
    debug = await rootfs_debug_inputs(
        [f"--kit={_KIT_INPUT}/{KIT}", *(f"--{name}={link_toolchain.paths[program]}" for name, program in _LINK_PROGRAMS)],
        app,
        layers,
        placed,
        origin,
        toolkit,
        immutable_inputs={_KIT_INPUT: parts.kit},
        environment=link_toolchain.environment,
    )
    return await built_image(path, [result.output_digest for result in results], layer_inputs(indexes), debug)


def rules() -> Iterable[Rule | UnionRule]:
    return (*collect_rules(), *linux_kit.rules())
