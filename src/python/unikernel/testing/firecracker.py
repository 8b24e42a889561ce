"""What Firecracker's --config-file takes.

No package of Debian, PyPI or npm has Firecracker's own definition of it, so this schema is written after that: FullVmConfiguration in
src/firecracker/swagger/firecracker.yaml, and after what its parser (src/vmm/src/resources.rs and vmm_config) asks beyond it: no unknown
keys, and `drives` and `boot-source` are not optional. Of devices it has those that an image has a driver for.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_TOKEN_BUCKET = _object(
    {"size": {"type": "integer", "minimum": 0}, "refill_time": {"type": "integer", "minimum": 0}},
    one_time_burst={"type": "integer", "minimum": 0},
)
_RATE_LIMITER = _object({}, bandwidth=_TOKEN_BUCKET, ops=_TOKEN_BUCKET)
_BOOT_SOURCE = _object({"kernel_image_path": {**_TEXT, "minLength": 1}}, boot_args=_TEXT, initrd_path=_TEXT)
_MACHINE = _object(
    {"vcpu_count": {"type": "integer", "minimum": 1, "maximum": 32}, "mem_size_mib": {"type": "integer", "minimum": 1}},
    smt=_FLAG,
    track_dirty_pages=_FLAG,
    cpu_template={"enum": ["C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None"]},
    huge_pages={"enum": ["None", "2M"]},
)
_INTERFACE = _object(
    {"iface_id": {**_TEXT, "pattern": "^[A-Za-z0-9_]+$"}, "host_dev_name": {**_TEXT, "minLength": 1, "maxLength": 15}},
    guest_mac={**_TEXT, "pattern": "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$"},
    mtu={"type": "integer", "minimum": 68, "maximum": 65535},
    rx_rate_limiter=_RATE_LIMITER,
    tx_rate_limiter=_RATE_LIMITER,
)
_CONFIGURATION = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    **_object(
        {"boot-source": _BOOT_SOURCE, "drives": {"type": "array", "maxItems": 0}},
        **{
            "machine-config": _MACHINE,
            "network-interfaces": {"type": "array", "items": _INTERFACE},
            "entropy": _object({}, rate_limiter=_RATE_LIMITER),
        },
    ),
}


def firecracker_complaint(document: Any) -> str:
    """What is wrong with the configuration; empty for a valid one."""
    Draft202012Validator.check_schema(_CONFIGURATION)
    errors = sorted(
        Draft202012Validator(_CONFIGURATION).iter_errors(document), key=lambda error: [str(part) for part in error.path]
    )
    return errors[0].message if errors else ""
