from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from unikernel.image_test.case import Case
from unikernel.image_test.report import junit_xml

_CASES = [Case("http GET / on port 8080: 200", 0.25), Case("console: <a & b>", 1.5, "expected '\x1b[0m\0', and there is none.")]


def test_each_expectation_is_a_case() -> None:
    (suite,) = ElementTree.fromstring(junit_xml("src/a:b", _CASES, 2.0, "one\ntwo\n"))
    assert suite.attrib == {"name": "src/a:b", "tests": "2", "failures": "1", "errors": "0", "skipped": "0", "time": "2.000"}
    good, bad, output = suite
    assert good.attrib == {"classname": "src/a:b", "name": "http GET / on port 8080: 200", "time": "0.250"}
    assert list(good) == []
    assert bad.get("name") == "console: <a & b>"
    (failure,) = bad
    assert failure.tag == "failure"
    # XML has no place for them.
    assert failure.text == failure.get("message") == "expected '\ufffd[0m\ufffd', and there is none."
    assert (output.tag, output.text) == ("system-out", "one\ntwo\n")


def test_what_no_xml_can_have_is_replaced() -> None:
    console = "".join(map(chr, range(32))) + "\x7f\ud800\ufffe\uffff\U0001f600]]>"
    output = ElementTree.fromstring(junit_xml("a", [], 0, console)).find("testsuite/system-out")
    assert output is not None and output.text is not None
    # A parser makes ends of lines of carriage returns.
    assert output.text == "\ufffd" * 9 + "\t\n" + "\ufffd" * 2 + "\n" + "\ufffd" * 18 + "\x7f" + "\ufffd" * 3 + "\U0001f600]]>"


def test_equal_results_have_equal_reports() -> None:
    assert junit_xml("a", _CASES, 1, "x") == junit_xml("a", list(_CASES), 1, "x")
