"""Runs the server until the process is asked to stop."""

import signal
import sys
import threading

from app.server import Server
from app.settings import InvalidSetting, Settings


def run(environment, started=lambda url: None) -> int:
    """Serves until SIGTERM or SIGINT; gives the exit code. Calls `started` once it listens."""
    try:
        settings = Settings.read(environment)
    except InvalidSetting as error:
        print(error, file=sys.stderr)
        return 64
    try:
        server = Server(settings)
    except OSError as error:
        print(f"cannot listen on {settings.host}:{settings.port}: {error}", file=sys.stderr)
        return 1

    def stop(_signal, _frame):
        # `shutdown` waits for the loop that runs on this very thread.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"listening on {server.url}", flush=True)
    started(server.url)
    server.serve_forever(poll_interval=0.05)
    server.close_gracefully()
    print("stopped", flush=True)
    return 0
