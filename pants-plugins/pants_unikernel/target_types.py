"""The `unikernel_image` target."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, Optional

from pants.backend.docker.registries import ALL_DEFAULT_REGISTRIES
from pants.engine.addresses import Address
from pants.engine.target import (
    COMMON_TARGET_FIELDS,
    BoolField,
    Dependencies,
    DictStringToStringField,
    Field,
    IntField,
    InvalidFieldException,
    InvalidFieldTypeException,
    InvalidTargetException,
    StringField,
    StringSequenceField,
    Target,
)
from pants.util.docutil import bin_name
from pants.util.frozendict import FrozenDict
from pants.util.strutil import help_text

from pants_unikernel.address_fields import AddressesFieldMixin, AddressField
from pants_unikernel.package_types import PackagedOutputPathField
from unikernel.hypervisors import HYPERVISORS
from unikernel.image.spec import NETWORK_MODES, Network, Port, parse_size
from unikernel.linux.configuration import parse_option
from unikernel.rootfs.files import PlacedFile, parse_mode
from unikernel.rootfs.needs import Capability

_ENVIRONMENT_NAME = re.compile(r"[^=\0]+")


def _invalid(field: type[Field], address: Address, reason: object) -> InvalidFieldException:
    return InvalidFieldException(f"The `{field.alias}` field in target {address} is not valid: {reason}.")


# --- what is in the image -----------------------------------------------------------------------------------------


class UnikernelImageDependenciesField(Dependencies):
    pass


class UnikernelImageAppField(AddressField):
    alias = "app"
    target_alias = "unikernel_image"
    help = help_text(
        f"""
        The address of the application: any target that `{bin_name()} package` can package.

        It is packaged exactly as `{bin_name()} package` would, and the result is reused. Understood are a PEX (`pex_binary`), an ELF
        program (`cc_binary`, `go_binary`, ...), a tar or zip archive or a directory of files (`archive`, ...), for which the
        `executable` field names the program, and a `docker_image`: its files are the image's, and what it says of its command, environment,
        user, working directory and ports counts where fields of this target do not say otherwise.

        Example: `app=":server"`
        """
    )


class UnikernelImageExecutableField(StringField):
    alias = "executable"
    help = help_text(
        """
        The path of the program to start, inside an application that is an archive or a directory of files.

        The application's files are laid out from the root directory, so `"bin/server"` starts `/bin/server`. Leave it out for an
        application that is one program or a PEX. For a `docker_image`, it takes the place of its ENTRYPOINT, without its CMD.
        """
    )


class UnikernelImageLibraryOsField(StringField):
    alias = "library_os"
    default = "linux"
    value: str
    help = help_text(
        """
        The library OS that the application is linked with.

        `linux` is Linux in unikernel form: a kernel that is compiled once for all images of the same configuration. `unikraft` and
        `nanos` run the same programs with kernels of yours. `picolibc` (a C library without a kernel, for RISC-V) and `solo5` compile the
        sources of a `cc_binary`. See docs/library-os.md for all of them, and for how to add one.

        With `parametrize("linux", "nanos")` there is an image for each.
        """
    )


class UnikernelImageDoesWithoutField(StringSequenceField):
    alias = "does_without"
    help = help_text(
        f"""
        What the application's code asks for and this image never does: {", ".join(f"`{item.value}`" for item in Capability)}.

        A library OS that does not provide something is refused where the application's own code asks for it. This takes it all the same,
        such as for a module that starts programs only on a developer's machine.

        Example: `does_without=["fork"]`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        for name in value or ():
            if name not in {item.value for item in Capability}:
                raise _invalid(cls, address, f"{name!r} is none of {', '.join(item.value for item in Capability)}")
        return value


class UnikernelImageArgsField(StringSequenceField):
    alias = "args"
    help = help_text(
        """
        Arguments for the application, after those that it is packaged with; in place of the CMD of a `docker_image`.

        Example: `args=["--port", "8080"]`
        """
    )


class UnikernelImageEnvField(DictStringToStringField):
    alias = "env"
    help = help_text(
        """
        Environment variables for the application.

        Example: `env={"LOG_LEVEL": "info"}`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[dict[str, str]], address: Address) -> Optional[FrozenDict[str, str]]:
        value = super().compute_value(raw_value, address)
        for name in value or ():
            if not _ENVIRONMENT_NAME.fullmatch(name):
                raise _invalid(cls, address, f"{name!r} is no name of a variable")
        return value


class UnikernelImageWorkingDirectoryField(StringField):
    alias = "working_directory"
    help = help_text(
        """
        The directory that the application starts in, as an absolute path inside the image. Without it: that of a `docker_image`, and `/` for
        other applications.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        if value is not None and not value.startswith("/"):
            raise _invalid(cls, address, f"{value!r} is no absolute path")
        return value


class UnikernelImageFilesField(AddressesFieldMixin, Field):
    alias = "files"
    target_alias = "unikernel_image"
    value: tuple[PlacedFile, ...]
    default = ()
    help = help_text(
        f"""
        Extra files: `(address, destination)` or `(address, destination, mode)` tuples.

        The address is a target with files (`file`, `files`, `resource`, ...) or one that `{bin_name()} package` can package. A single
        file becomes the destination, or goes into it if it ends with a slash; of several, each goes below the destination by its path
        relative to the target's directory. The mode is octal; without it, a file is executable in the image if it is so here.

        Example:

            files=[
              (":config", "/etc/server/config.toml"),
              ("//src/tools:migrate", "/usr/bin/", "0755"),
            ]
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Any, address: Address) -> tuple[PlacedFile, ...]:
        value = super().compute_value(raw_value, address)
        if not isinstance(value, (list, tuple)) or isinstance(value, str):
            raise cls._type_error(address, raw_value)
        files = []
        for entry in value:
            if not isinstance(entry, (list, tuple)) or len(entry) not in (2, 3) or not all(isinstance(part, str) for part in entry):
                raise cls._type_error(address, raw_value)
            files.append(cls._placed_file(PlacedFile(*entry), address))
        destinations = [file.destination for file in files if not file.destination.endswith("/")]
        for destination in destinations:
            if destinations.count(destination) > 1:
                raise _invalid(cls, address, f"the destination {destination!r} is there twice")
        return tuple(files)

    @classmethod
    def _type_error(cls, address: Address, raw_value: Any) -> InvalidFieldTypeException:
        return InvalidFieldTypeException(
            address,
            cls.alias,
            raw_value,
            expected_type="a list of (address, destination) or (address, destination, mode) tuples of strings",
        )

    @classmethod
    def _placed_file(cls, file: PlacedFile, address: Address) -> PlacedFile:
        if not file.destination.startswith("/") or ".." in file.destination.split("/"):
            raise _invalid(cls, address, f"the destination {file.destination!r} is no absolute path inside the image")
        if file.mode is not None:
            try:
                parse_mode(file.mode)
            except ValueError as error:
                raise _invalid(cls, address, error) from error
        slash = "/" if file.destination.endswith("/") else ""
        clean = "/" + "/".join(part for part in file.destination.split("/") if part not in ("", "."))
        return dataclasses.replace(file, destination=clean + slash if clean != "/" else "/")

    @property
    def addresses(self) -> Iterable[str]:
        return [file.source for file in self.value]


class UnikernelImageTimezoneField(StringField):
    alias = "timezone"
    help = help_text(
        """
        The local time zone, such as `"Europe/Paris"`. With it the IANA database is put into the image; without it there is none, and
        local time is UTC.
        """
    )


# --- what it runs on ----------------------------------------------------------------------------------------------


class UnikernelImageMemoryField(StringField):
    alias = "memory"
    help = help_text(
        """
        The memory that the image is run with, such as `"64M"`, `"512MiB"` or `"2G"`. It holds the root file system, the kernel, and what
        the application needs.

        Without it: what the root file system needs, and 128 MiB for the application.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        if value is not None:
            try:
                parse_size(value)
            except ValueError as error:
                raise _invalid(cls, address, error) from error
        return value

    @property
    def bytes(self) -> Optional[int]:
        return None if self.value is None else parse_size(self.value)


class UnikernelImageCpusField(IntField):
    alias = "cpus"
    default = 1
    value: int
    help = help_text(
        """
        The number of CPUs. With more than one, the image gets a kernel for several processors, which is compiled once for all of them.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[int], address: Address) -> int:
        value = super().compute_value(raw_value, address) or 0
        if not 1 <= value <= 64:
            raise _invalid(cls, address, f"{value} is not between 1 and 64")
        return value


class UnikernelImageNetworkField(StringField):
    alias = "network"
    valid_choices = NETWORK_MODES
    help = help_text(
        """
        How the image gets its IPv4 address: by `dhcp`, from the fields `ip_address`, `gateway` and `nameservers` (`static`), or not at all
        (`none`; it has the loopback interface only).

        Without it: `dhcp`, or `none` for a library OS without a network.
        """
    )

    @property
    def mode(self) -> str:
        return self.value or "dhcp"


class UnikernelImageIpAddressField(StringField):
    alias = "ip_address"
    help = 'The IPv4 address with the length of its prefix, for `network="static"`. Example: `"10.0.2.15/24"`.'


class UnikernelImageGatewayField(StringField):
    alias = "gateway"
    help = 'The IPv4 address of the default gateway, for `network="static"`. Example: `"10.0.2.2"`.'


class UnikernelImageNameserversField(StringSequenceField):
    alias = "nameservers"
    default = ()
    help = 'The IPv4 addresses of the name servers. With `network="dhcp"` they replace those that DHCP gives.'


class UnikernelImageHostnameField(StringField):
    alias = "hostname"
    help = "The host name. Without it: the target's name, with hyphens for what a host name cannot have."


class UnikernelImagePortsField(StringSequenceField):
    alias = "ports"
    default = ()
    help = help_text(
        """
        The ports that the application listens on; without them, those that a `docker_image` exposes. `"8080"` is forwarded from the same port of the host when the image is run,
        `"8080:80"` from the host's 8080 to the image's 80, and `/udp` at the end makes it UDP.

        Example: `ports=["8080:80", "53/udp"]`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        ports: dict[tuple[int, str], str] = {}
        for text in value or ():
            try:
                port = Port.parse(text)
            except ValueError as error:
                raise _invalid(cls, address, error) from error
            if ports.setdefault((port.host_port, port.protocol), text) != text:
                raise _invalid(cls, address, f"two entries use the host's port {port.host_port}/{port.protocol}")
        return value

    @property
    def ports(self) -> tuple[Port, ...]:
        return tuple(Port.parse(text) for text in dict.fromkeys(self.value or ()))


# --- how it is built ----------------------------------------------------------------------------------------------


class UnikernelImageKernelConfigField(StringSequenceField):
    alias = "kernel_config"
    default = ()
    help = help_text(
        """
        Kernel options on top of the base configuration. Images with the same options share one compiled kernel.

        An option that the kernel does not have, or whose dependencies are not there, is an error.

        Example: `kernel_config=["CONFIG_IPV6=y", "CONFIG_HZ_1000=y"]`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        options: dict[str, str] = {}
        for text in value or ():
            try:
                symbol, setting = parse_option(text)
            except ValueError as error:
                raise _invalid(cls, address, error) from error
            if options.setdefault(symbol, setting) != setting:
                raise _invalid(cls, address, f"{symbol} is set to both {options[symbol]} and {setting}")
        return value


class UnikernelImageKernelParametersField(StringSequenceField):
    alias = "kernel_parameters"
    default = ()
    help = help_text(
        """
        Kernel parameters to compile into the image, after those that every image has.

        Example: `kernel_parameters=["loglevel=7"]`
        """
    )


# Those that are OCI layouts, which can be published.
LAYOUT_FORMATS = ("container", "oci")


class UnikernelImageFormatsField(StringSequenceField):
    alias = "formats"
    default = ("elf",)
    valid_choices = ("elf", *LAYOUT_FORMATS, "debug", *HYPERVISORS)
    value: tuple[str, ...]
    help = help_text(
        f"""
        What is made of the application's root file system: `elf`, the unikernel image (whatever its library OS writes), `container`, a
        container image of the same files, `oci`, the unikernel image as a package for registries and for container runtimes that boot
        unikernels, such as urunc, and `debug`, what debuggers need of the image, which has no symbols itself: `NAME.elf.debug`.

        The container image is an OCI layout, the directory `NAME.container`, and `NAME.container.tar` for `docker load`; the package is the
        OCI layout `NAME.oci`. No daemon is needed. `{bin_name()} publish` pushes both to registries.

        Further ones are configurations for hypervisors that boot the image, beside it: {', '.join(f"`{name}`" for name in HYPERVISORS)}.

        Example: `formats=["elf", "container", "oci"]`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        if value is not None and ("elf" not in value or len(set(value)) != len(value)):
            raise _invalid(cls, address, f"it is {list(value)}; name elf, and each other format once")
        return value


class UnikernelImageUserField(StringField):
    alias = "user"
    help = help_text(
        """
        The user that the application runs as, such as `"1000:1000"`, or a name that the image's own /etc/passwd knows. Without it: that of a
        `docker_image`, and root for other applications. A unikernel with another library OS than Linux has no users.
        """
    )


class UnikernelImageLabelsField(DictStringToStringField):
    alias = "labels"
    help = help_text(
        """
        Labels of the container image and of the OCI package.

        Example: `labels={"org.opencontainers.image.vendor": "Example"}`
        """
    )


class UnikernelImageRegistriesField(StringSequenceField):
    alias = "registries"
    default = (ALL_DEFAULT_REGISTRIES,)
    value: tuple[str, ...]
    help = help_text(
        f"""
        The registries that `{bin_name()} publish` pushes to: addresses, or aliases with `@` of those in `[docker].registries`.

        By default, all configured registries with `default = true`, as for a `docker_image`.

        Example: `registries=["@internal", "registry.example.com:5000"]`
        """
    )


class UnikernelImageRepositoryField(StringField):
    alias = "repository"
    help = help_text(
        """
        The name of the repository in a registry, such as `"{directory}/{name}"`; `[docker].default_repository` without it.

        Placeholders are `{name}`, `{directory}`, `{parent_directory}` and `{default_repository}`, as for a `docker_image`. A registry can
        have a name of its own for the repositories in it.
        """
    )


class UnikernelImageTagsField(StringSequenceField):
    alias = "image_tags"
    default = ("latest",)
    value: tuple[str, ...]
    help = help_text(
        """
        The tags of the OCI package in a registry. Those of the container image end with `-container`.

        Placeholders are those of `repository`, `{build_args.NAME}` for a value of `[docker].build_args`, and `{pants.hash}`, which changes
        with the image.

        Example: `image_tags=["{build_args.VERSION}", "latest"]`
        """
    )


class UnikernelImageSkipPushField(BoolField):
    alias = "skip_push"
    default = False
    help = f"If true, `{bin_name()} publish` pushes nothing of this image."


class UnikernelImageOutputPathField(PackagedOutputPathField):
    help = help_text(
        f"""
        Where the image is written, with `.json` instead of the ending for its manifest.

        Without it: the path to the BUILD file, then the target name, such as `src.python.project/server.elf`.

        When running `{bin_name()} package`, this path will be prefixed by `--distdir` (e.g. `dist/`).
        """
    )


class UnikernelImageTarget(Target):
    alias = "unikernel_image"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        UnikernelImageDependenciesField,
        UnikernelImageAppField,
        UnikernelImageExecutableField,
        UnikernelImageLibraryOsField,
        UnikernelImageDoesWithoutField,
        UnikernelImageArgsField,
        UnikernelImageEnvField,
        UnikernelImageWorkingDirectoryField,
        UnikernelImageFilesField,
        UnikernelImageTimezoneField,
        UnikernelImageMemoryField,
        UnikernelImageCpusField,
        UnikernelImageNetworkField,
        UnikernelImageIpAddressField,
        UnikernelImageGatewayField,
        UnikernelImageNameserversField,
        UnikernelImageHostnameField,
        UnikernelImagePortsField,
        UnikernelImageKernelConfigField,
        UnikernelImageKernelParametersField,
        UnikernelImageFormatsField,
        UnikernelImageUserField,
        UnikernelImageLabelsField,
        UnikernelImageRegistriesField,
        UnikernelImageRepositoryField,
        UnikernelImageTagsField,
        UnikernelImageSkipPushField,
        UnikernelImageOutputPathField,
    )
    help = help_text(
        f"""
        A bootable unikernel image: an application that another target packages, linked with a library OS into one ELF file.

        `{bin_name()} package` writes the image and its manifest to `dist/`; `{bin_name()} run` boots it under QEMU.

        Example:

            pex_binary(name="server", entry_point="main.py")

            unikernel_image(
              name="unikernel",
              app=":server",
              memory="256M",
              ports=["8080"],
            )
        """
    )

    def validate(self) -> None:
        try:
            self.network().validate()
        except ValueError as error:
            setting, _, reason = str(error).partition(": ")
            field = UnikernelImageIpAddressField.alias if setting == "address" else setting
            raise InvalidTargetException(
                f"The `{field}` field in target {self.address} is not valid: {reason}.", description_of_origin=str(self.address)
            ) from error

    def network(self) -> Network:
        return network_of(
            self[UnikernelImageNetworkField],
            self[UnikernelImageIpAddressField],
            self[UnikernelImageGatewayField],
            self[UnikernelImageNameserversField],
            self[UnikernelImageHostnameField],
        )


def network_of(
    mode: UnikernelImageNetworkField,
    ip_address: UnikernelImageIpAddressField,
    gateway: UnikernelImageGatewayField,
    nameservers: UnikernelImageNameserversField,
    hostname: UnikernelImageHostnameField,
) -> Network:
    return Network(
        mode=mode.mode,
        address=ip_address.value or "",
        gateway=gateway.value or "",
        nameservers=tuple(nameservers.value or ()),
        hostname=hostname.value or "",
    )


def default_hostname(name: str) -> str:
    """A host name that resembles a target's name."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", name).strip("-")[:63] or "unikernel"


def target_types() -> Iterable[type[Target]]:
    return (UnikernelImageTarget,)
