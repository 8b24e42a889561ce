"""The targets `unikernel_test` and `unikernel_python_tests`: what is expected of an image when it boots, and pytest in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable, Optional

from pants.core.goals.test import TestTimeoutField
from pants.engine.addresses import Address
from pants.engine.target import (
    COMMON_TARGET_FIELDS,
    BoolField,
    Dependencies,
    Field,
    IntField,
    InvalidFieldException,
    StringField,
    StringSequenceField,
    Target,
)
from pants.util.docutil import bin_name
from pants.util.strutil import help_text

from pants_unikernel.address_fields import AddressesFieldMixin, ImageAddressField
from pants_unikernel.target_types import UnikernelImageEnvField
from unikernel.image.spec import parse_size
from unikernel.image_test.expectations import (
    DEFAULT_TIMEOUT,
    HttpProbe,
    TcpProbe,
    check_exit_status,
    parse_expressions,
    parse_http,
    parse_tcp,
)


def invalid(field: str, address: Address, reason: object) -> InvalidFieldException:
    return InvalidFieldException(f"The `{field}` field in target {address} is not valid: {reason}.")


def _checked(field: type[Field], address: Address, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise invalid(field.alias, address, error) from error


class UnikernelTestDependenciesField(Dependencies):
    pass


class UnikernelTestImageField(ImageAddressField):
    target_alias = "unikernel_test"
    help = help_text(
        """
        The address of the `unikernel_image` to boot.

        Example: `image=":unikernel"`
        """
    )


class UnikernelTestExitStatusField(IntField):
    alias = "exit_status"
    help = help_text(
        """
        The exit status that the application ends with: 0 to 255, 128 and the number of the signal for one that a signal ends.

        Without it: 0, if nothing else is to be waited for (`console`, `http` or `tcp`). Otherwise the application may run on, and is
        stopped.
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[int], address: Address) -> Optional[int]:
        value: Optional[int] = super().compute_value(raw_value, address)
        if value is not None:
            _checked(cls, address, check_exit_status, value)
        return value


class UnikernelTestConsoleField(StringSequenceField):
    alias = "console"
    help = help_text(
        """
        Regular expressions (Python's), each of which some line of the console has to match anywhere.

        Example: `console=["listening on port [0-9]+$"]`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Optional[Iterable[str]], address: Address) -> Optional[tuple[str, ...]]:
        value = super().compute_value(raw_value, address)
        if value is not None:
            _checked(cls, address, parse_expressions, value)
        return value


class UnikernelTestConsoleNotField(UnikernelTestConsoleField):
    alias = "console_not"
    help = help_text(
        """
        Regular expressions (Python's) that no line of the console may match, until the image ends or is stopped.

        Example: `console_not=["Traceback", "Out of memory"]`
        """
    )


class UnikernelTestHttpField(Field):
    alias = "http"
    value: tuple[HttpProbe, ...]
    default = ()
    help = help_text(
        """
        Requests to the service, and what is expected of their answers: dictionaries. They are made one after another, once the service
        listens, and none is made twice: the first answer counts.

        What is asked: `method` ("GET"), `path` ("/"), `port` (one of the image's, the first TCP port by default), `send` (a body) and
        `send_headers` (name: value).

        What is expected: `status` (200), `body` (a regular expression for some of it), and `headers` (name: regular expression).

        Example: `http=[{"path": "/greet?name=Ada", "body": "Hello, Ada", "headers": {"Content-Type": "text/html"}}]`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Any, address: Address) -> tuple[HttpProbe, ...]:
        value = super().compute_value(raw_value, address)
        probes: tuple[HttpProbe, ...] = _checked(cls, address, parse_http, value)
        return probes


class UnikernelTestTcpField(Field):
    alias = "tcp"
    value: tuple[TcpProbe, ...]
    default = ()
    help = help_text(
        """
        Connections to the service, and what is expected of them: dictionaries with `port` (one of the image's, the first TCP port by
        default), `send` (text), and `receive` (a regular expression for what comes back). Without `receive`, that the service takes the
        connection is all.

        Example: `tcp=[{"port": 6379, "send": "PING\\r\\n", "receive": "PONG"}]`
        """
    )

    @classmethod
    def compute_value(cls, raw_value: Any, address: Address) -> tuple[TcpProbe, ...]:
        value = super().compute_value(raw_value, address)
        probes: tuple[TcpProbe, ...] = _checked(cls, address, parse_tcp, value)
        return probes


class UnikernelTestTimeoutField(TestTimeoutField):
    help = help_text(
        f"""
        A timeout (in seconds) for all of it: the boot, the probes, and the application's end.

        Without it: `[test].timeout_default`, or {DEFAULT_TIMEOUT}, if that option is not set either. Never more than
        `[test].timeout_maximum`. Only applies if the option `--test-timeouts` is set to true (the default).
        """
    )


class UnikernelTestMemoryField(StringField):
    alias = "memory"
    help = 'The memory that the image is booted with, such as `"96M"`. Without it, the image\'s own.'

    @classmethod
    def compute_value(cls, raw_value: Optional[str], address: Address) -> Optional[str]:
        value = super().compute_value(raw_value, address)
        if value is not None:
            _checked(cls, address, parse_size, value)
        return value

    @property
    def bytes(self) -> Optional[int]:
        return None if self.value is None else parse_size(self.value)


class UnikernelTestArgsField(StringSequenceField):
    alias = "args"
    help = help_text(
        """
        Arguments for the application, after those of the image.

        Example: `args=["--status=3"]`
        """
    )


class UnikernelTestEnvField(UnikernelImageEnvField):
    help = help_text(
        """
        Environment variables for what runs in the image, beside and instead of the image's own.

        Example: `env={"LOG_LEVEL": "debug"}`
        """
    )


class SkipUnikernelTestsField(BoolField):
    alias = "skip_tests"
    default = False
    help = f"If true, `{bin_name()} test` does not run this."


class UnikernelTestTarget(Target):
    alias = "unikernel_test"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        UnikernelTestDependenciesField,
        UnikernelTestImageField,
        UnikernelTestExitStatusField,
        UnikernelTestConsoleField,
        UnikernelTestConsoleNotField,
        UnikernelTestHttpField,
        UnikernelTestTcpField,
        UnikernelTestTimeoutField,
        UnikernelTestMemoryField,
        UnikernelTestArgsField,
        UnikernelTestEnvField,
        SkipUnikernelTestsField,
    )
    help = help_text(
        f"""
        What is expected of a unikernel image when it boots. `{bin_name()} test` boots it, and looks.

        Example:

            unikernel_test(
              name="boots",
              image=":unikernel",
              http=[{{"path": "/", "body": "Hello"}}],
              console=["listening on port 8080"],
              console_not=["Traceback"],
            )
        """
    )


# --- pytest in an image ---------------------------------------------------------------------------------------------


class UnikernelPythonTestsImageField(UnikernelTestImageField):
    target_alias = "unikernel_python_tests"
    help = help_text(
        """
        The address of the `unikernel_image` whose parts the tests run with. Its application is a Python application, such as a
        `pex_binary`.

        Example: `image=":unikernel"`
        """
    )


class UnikernelPythonTestsTestsField(AddressesFieldMixin, StringSequenceField):
    alias = "tests"
    target_alias = "unikernel_python_tests"
    required = True
    value: tuple[str, ...]
    help = help_text(
        """
        The addresses of `python_tests` targets, all of whose tests run in the image, one after another.

        Example: `tests=[":tests"]`
        """
    )

    @property
    def addresses(self) -> Iterable[str]:
        return self.value


class UnikernelPythonTestsTarget(Target):
    alias = "unikernel_python_tests"
    core_fields = (
        *COMMON_TARGET_FIELDS,
        UnikernelTestDependenciesField,
        UnikernelPythonTestsImageField,
        UnikernelPythonTestsTestsField,
        UnikernelTestTimeoutField,
        UnikernelTestMemoryField,
        UnikernelTestEnvField,
        SkipUnikernelTestsField,
    )
    help = help_text(
        f"""
        A service's own tests, run by pytest in the unikernel that it ships as. `{bin_name()} test` makes an image with the library OS, kernel,
        interpreter, distributions, files and code of the `image`, adds pytest and the tests to it, and starts them instead of the application.

        Example:

            unikernel_python_tests(
              name="tests-in-image",
              image=":unikernel",
              tests=[":tests"],
            )
        """
    )


def target_types() -> Iterable[type[Target]]:
    return (UnikernelTestTarget, UnikernelPythonTestsTarget)
