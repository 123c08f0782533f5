"""Counts the lines that tests run, in every thread, and writes them in the format of lcov."""

import dis
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from types import CodeType


class LineCounter:
    """Counts while it is entered. Enter it before the measured package is imported."""

    def __init__(self, root: Path, package: str):
        self._root = root
        self._counts = {str(path): Counter() for path in sorted((root / package).rglob("*.py"))}
        self._known = {}

    def __enter__(self):
        threading.settrace(self._enter_call)
        sys.settrace(self._enter_call)
        return self

    def __exit__(self, *_error):
        sys.settrace(None)
        threading.settrace(None)

    def _enter_call(self, frame, _event, _argument):
        name = frame.f_code.co_filename
        if name not in self._known:
            self._known[name] = self._counts.get(os.path.realpath(name))
        counts = self._known[name]
        if counts is None:
            return None

        def count(frame, event, _argument):
            if event == "line":
                counts[frame.f_lineno] += 1
            return count

        return count

    def write(self, report: Path) -> "tuple[int, int]":
        """Writes the report; gives the numbers of covered and of executable lines."""
        covered = total = 0
        with report.open("w", encoding="utf-8") as out:
            for name, counts in self._counts.items():
                lines = executable_lines(Path(name))
                hit = [line for line in lines if counts[line] > 0]
                covered, total = covered + len(hit), total + len(lines)
                out.write(f"SF:{Path(name).relative_to(self._root)}\n")
                for line in lines:
                    out.write(f"DA:{line},{counts[line]}\n")
                out.write(f"LF:{len(lines)}\nLH:{len(hit)}\nend_of_record\n")
        return covered, total


def executable_lines(path: Path) -> "list[int]":
    """The lines that the compiler made instructions for."""
    pending = [compile(path.read_bytes(), str(path), "exec")]
    lines = set()
    while pending:
        code = pending.pop()
        lines.update(line for _, line in dis.findlinestarts(code) if line)
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return sorted(lines)
