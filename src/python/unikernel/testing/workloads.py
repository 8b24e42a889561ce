"""Workloads for tests of deployment manifests."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from unikernel.deploy.workload import MANAGED_BY_LABEL, NAME_LABEL, ServicePort, Workload

UNIKERNEL_IMAGE = f"registry.example.com/team/greeter@sha256:{'1' * 64}"
CONTAINER_IMAGE = f"localhost:5000/greeter@sha256:{'2' * 64}"
IMAGE_PATH = "/unikernel/greeter.elf"
# hypothesis' own name for it has type arguments in a form that mypy 1.1 does not know.
Strategy = Any
# What some reader of YAML takes for something other than a string, if it is not quoted.
TRAPS = (
    *("y", "N", "yes", "No", "on", "OFF", "true", "False", "null", "NULL", "None", "nan", "inf", "null.", "y.", "e3"),
    *("0", "007", "017", "0o17", "0x1F", "0b1", "1_000", "12.5", "1.", "1e3", "1E3", "1e-3", "12-30", "2001-12-14"),
)

_LOWER = string.ascii_lowercase + string.digits
_WORD = string.ascii_letters + string.digits
_DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


def workload(**changes: Any) -> Workload:
    settings: dict[str, Any] = {
        "name": "greeter",
        "target": "src/services/greeter:deploy",
        "memory": 128 << 20,
        "unikernel_image": UNIKERNEL_IMAGE,
        "container_image": CONTAINER_IMAGE,
        "image_path": IMAGE_PATH,
        "ports": (ServicePort(8080, name="http"), ServicePort(5353, "udp")),
    }
    return Workload(**{**settings, **changes})


def labels_of_dns(longest: int, first: str = _LOWER) -> Strategy:
    """The longest are made too: names of 63 characters and ports of 15 are where limits bite."""
    middle = st.text(_LOWER + "-", max_size=longest - 2)
    several = st.builds("".join, st.tuples(st.sampled_from(first), middle, st.sampled_from(_LOWER)))
    return st.sampled_from(first) | several | st.sampled_from(first).map(lambda letter: letter * longest)


def qualified_names() -> Strategy:
    middle = st.text(_WORD + "._-", max_size=61)
    words = st.builds("".join, st.tuples(st.sampled_from(_WORD), middle, st.sampled_from(_WORD)))
    return words | st.sampled_from([trap for trap in TRAPS if not trap.endswith(".")])


def label_sets() -> Strategy:
    reserved = (NAME_LABEL, MANAGED_BY_LABEL)
    prefixes = st.just("") | st.lists(labels_of_dns(63), min_size=1, max_size=3).map(lambda parts: ".".join(parts) + "/")
    keys = st.builds("".join, st.tuples(prefixes, qualified_names())).filter(lambda key: key not in reserved)
    return st.dictionaries(keys, st.just("") | qualified_names(), max_size=4)


def _port_names() -> Strategy:
    names = labels_of_dns(15).filter(lambda name: "--" not in name and any(letter.isalpha() for letter in name))
    return st.just("") | names


def port_lists() -> Strategy:
    ports = st.builds(ServicePort, st.integers(1, 65535), st.sampled_from(("tcp", "udp")), _port_names())
    unique_by = (lambda port: port.label, str)
    return st.lists(ports, max_size=5, unique_by=unique_by).map(tuple)


def workloads() -> Strategy:
    repositories = st.sampled_from(("localhost/a", "[::1]:5000/a/b_c", "a.example:80/x--y"))
    images = st.builds("{}@sha256:{}".format, repositories, _DIGESTS)
    line = st.text(st.characters(blacklist_categories=("C", "Z")) | st.just(" "), max_size=200)
    common = {
        "name": labels_of_dns(63, string.ascii_lowercase),
        "memory": st.integers(1 << 20, 1 << 42),
        "target": line,
        "ports": port_lists(),
        "cpus": st.integers(1, 512),
        "namespace": st.just("") | labels_of_dns(63),
        "replicas": st.integers(1, 1000),
        "labels": label_sets(),
        "service_account": st.just("") | labels_of_dns(63),
    }
    elf = {"unikernel_image": images, "image_path": st.just(IMAGE_PATH), "kernel_arguments": line}
    return st.one_of(
        st.builds(Workload, container_image=images, **common),
        st.builds(Workload, **elf, **common),
        st.builds(Workload, container_image=images, **elf, **common),
        st.builds(Workload, unikernel_image=images, kind=st.just("disk"), **common),
    )
