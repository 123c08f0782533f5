"""Runs every test: `python3 -m tests`. Writes `junit.xml` and `lcov.info`; no test at all is a failure."""

import sys
import unittest
from pathlib import Path

from tests.coverage import LineCounter
from tests.junit import JunitResult

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    counter = LineCounter(ROOT, "app")
    with counter:
        suite = unittest.defaultTestLoader.discover(str(ROOT / "tests"), top_level_dir=str(ROOT))
        result = unittest.TextTestRunner(resultclass=JunitResult, verbosity=2).run(suite)
    result.write(ROOT / "junit.xml")
    covered, total = counter.write(ROOT / "lcov.info")
    print(f"{covered} of {total} lines covered ({100 * covered / max(total, 1):.1f} %)")
    if result.testsRun == 0:
        print("no test was found", file=sys.stderr)
        return 1
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
