"""The report of a test: JUnit XML, as Pants and CI systems read it. Equal results have equal reports but for the times."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from unikernel.image_test.case import Case

# XML 1.0, section 2.2: what no document can have, however it is written.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(name: str, cases: Sequence[Case], seconds: float, console: str) -> bytes:
    """One suite, with a case for each expectation."""
    failures = sum(bool(case.failure) for case in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "skipped": "0", "time": f"{seconds:.3f}"}
    suites = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(suites, "testsuite", {"name": xml_text(name), **counts})
    for case in cases:
        attributes = {"classname": xml_text(name), "name": xml_text(case.name), "time": f"{case.seconds:.3f}"}
        element = ElementTree.SubElement(suite, "testcase", attributes)
        if case.failure:
            failure = ElementTree.SubElement(element, "failure", {"message": xml_text(case.failure)})
            failure.text = xml_text(case.failure)
    ElementTree.SubElement(suite, "system-out").text = xml_text(console)
    return ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n"


def xml_text(text: str) -> str:
    """With a replacement character for each that XML cannot have."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
