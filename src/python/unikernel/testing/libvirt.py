"""libvirt's schema of a domain (RELAX NG), from Debian's package."""

from __future__ import annotations

import functools

from lxml import etree

from unikernel.testing.debian_package import extracted

# Where libvirt0 has it, and not yet another package.
_RELEASE = "bookworm"


def domain_complaint(document: str) -> str:
    """What is wrong with a domain; empty for a valid one."""
    domain = etree.fromstring(document.encode())
    schema = _schema()
    return "" if schema.validate(domain) else str(schema.error_log)


@functools.cache
def _schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(str(extracted("libvirt0", release=_RELEASE) / "usr/share/libvirt/schemas/domain.rng")))
