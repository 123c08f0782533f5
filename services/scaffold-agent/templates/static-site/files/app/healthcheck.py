"""Asks the running service for its health: `python3 -m app.healthcheck`. Exit code 0 means healthy."""

import os
import sys
import urllib.error
import urllib.request

from app.settings import Settings


def is_healthy(port: int) -> bool:
    # Never through a proxy: the service is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(0 if is_healthy(Settings.read(os.environ).port) else 1)
