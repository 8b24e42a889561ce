from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Manifest(_message.Message):
    __slots__ = ("schema_version", "name", "target", "architecture", "library_os", "rootfs", "command_line", "start", "memory_bytes", "cpus", "network", "ports", "inputs", "tools", "not_reproducible")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    LIBRARY_OS_FIELD_NUMBER: _ClassVar[int]
    ROOTFS_FIELD_NUMBER: _ClassVar[int]
    COMMAND_LINE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    NOT_REPRODUCIBLE_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    name: str
    target: str
    architecture: str
    library_os: LibraryOs
    rootfs: Rootfs
    command_line: str
    start: Start
    memory_bytes: int
    cpus: int
    network: Network
    ports: _containers.RepeatedCompositeFieldContainer[Port]
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    tools: _containers.RepeatedCompositeFieldContainer[Tool]
    not_reproducible: bool
    def __init__(self, schema_version: _Optional[int] = ..., name: _Optional[str] = ..., target: _Optional[str] = ..., architecture: _Optional[str] = ..., library_os: _Optional[_Union[LibraryOs, _Mapping]] = ..., rootfs: _Optional[_Union[Rootfs, _Mapping]] = ..., command_line: _Optional[str] = ..., start: _Optional[_Union[Start, _Mapping]] = ..., memory_bytes: _Optional[int] = ..., cpus: _Optional[int] = ..., network: _Optional[_Union[Network, _Mapping]] = ..., ports: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ..., not_reproducible: bool = ...) -> None: ...

class LibraryOs(_message.Message):
    __slots__ = ("name", "version", "kit_sha256", "config_sha256", "description", "config")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIT_SHA256_FIELD_NUMBER: _ClassVar[int]
    CONFIG_SHA256_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    kit_sha256: str
    config_sha256: str
    description: str
    config: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., kit_sha256: _Optional[str] = ..., config_sha256: _Optional[str] = ..., description: _Optional[str] = ..., config: _Optional[_Iterable[str]] = ...) -> None: ...

class Rootfs(_message.Message):
    __slots__ = ("sha256", "size", "layers", "packed_sha256", "packed_size")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    PACKED_SHA256_FIELD_NUMBER: _ClassVar[int]
    PACKED_SIZE_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size: int
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    packed_sha256: str
    packed_size: int
    def __init__(self, sha256: _Optional[str] = ..., size: _Optional[int] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., packed_sha256: _Optional[str] = ..., packed_size: _Optional[int] = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "sha256", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    sha256: str
    size: int
    def __init__(self, name: _Optional[str] = ..., sha256: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("program", "arguments", "environment", "working_directory", "user")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    program: str
    arguments: _containers.RepeatedScalarFieldContainer[str]
    environment: _containers.RepeatedScalarFieldContainer[str]
    working_directory: str
    user: str
    def __init__(self, program: _Optional[str] = ..., arguments: _Optional[_Iterable[str]] = ..., environment: _Optional[_Iterable[str]] = ..., working_directory: _Optional[str] = ..., user: _Optional[str] = ...) -> None: ...

class Network(_message.Message):
    __slots__ = ("mode", "address", "gateway", "nameservers", "hostname")
    MODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    NAMESERVERS_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    mode: str
    address: str
    gateway: str
    nameservers: _containers.RepeatedScalarFieldContainer[str]
    hostname: str
    def __init__(self, mode: _Optional[str] = ..., address: _Optional[str] = ..., gateway: _Optional[str] = ..., nameservers: _Optional[_Iterable[str]] = ..., hostname: _Optional[str] = ...) -> None: ...

class Port(_message.Message):
    __slots__ = ("guest_port", "host_port", "protocol")
    GUEST_PORT_FIELD_NUMBER: _ClassVar[int]
    HOST_PORT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    guest_port: int
    host_port: int
    protocol: str
    def __init__(self, guest_port: _Optional[int] = ..., host_port: _Optional[int] = ..., protocol: _Optional[str] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("name", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    sha256: str
    def __init__(self, name: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class Tool(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...
