"""Starts the service: `python3 -m app`."""

import os
import sys

from app.service import run

if __name__ == "__main__":
    sys.exit(run(os.environ))
