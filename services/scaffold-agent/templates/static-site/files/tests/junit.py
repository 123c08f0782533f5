"""Collects the outcome of each test and writes them as a JUnit report."""

import re
import time
import unittest
from pathlib import Path
from xml.etree import ElementTree

# Characters that XML 1.0 cannot hold.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# From bad to worse.
RANK = ("passed", "skipped", "failure", "error")


class JunitResult(unittest.TextTestResult):
    """Remembers one outcome per test: the worst."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._cases = {}
        self._started = time.monotonic()
        self._test_started = self._started

    def startTest(self, test):
        self._test_started = time.monotonic()
        super().startTest(test)
        self._note(test, "passed")

    def stopTest(self, test):
        self._cases[test.id()]["seconds"] = time.monotonic() - self._test_started
        super().stopTest(test)

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "error", self._exc_info_to_string(err, test))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "failure", self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            kind = "failure" if issubclass(err[0], test.failureException) else "error"
            self._note(test, kind, f"{subtest}\n{self._exc_info_to_string(err, test)}")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._note(test, "failure", "it was expected to fail, and passed")

    def _note(self, test, kind, text=""):
        new = {"kind": kind, "text": text, "seconds": 0.0}
        old = self._cases.setdefault(test.id(), new)
        if RANK.index(kind) > RANK.index(old["kind"]):
            old.update(kind=kind, text=text)

    def write(self, path: Path):
        """Writes the report."""
        suite = ElementTree.Element("testsuite", name="tests", tests=str(len(self._cases)))
        for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            count = sum(case["kind"] == kind for case in self._cases.values())
            suite.set(attribute, str(count))
        suite.set("time", f"{time.monotonic() - self._started:.3f}")
        for identity, case in self._cases.items():
            class_name, _, name = identity.rpartition(".")
            element = ElementTree.SubElement(
                suite, "testcase", classname=class_name, name=name, time=f"{case['seconds']:.3f}"
            )
            if case["kind"] != "passed":
                text = FORBIDDEN.sub("\ufffd", case["text"])
                lines = text.strip().splitlines() or [""]
                problem = ElementTree.SubElement(element, case["kind"], message=lines[-1])
                problem.text = text
        root = ElementTree.Element("testsuites")
        root.append(suite)
        ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
