import os
import signal
import socket
import subprocess
import sys
import threading
import unittest
import urllib.request
from pathlib import Path

from app.service import run

ROOT = Path(__file__).resolve().parent.parent


def status_of(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        return response.status


class RunTest(unittest.TestCase):
    def setUp(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))

    def test_it_serves_until_it_is_asked_to_stop(self):
        seen = []

        def ask_and_stop(url):
            seen.append(status_of(f"{url}/health"))
            os.kill(os.getpid(), signal.SIGTERM)

        def started(url):
            threading.Thread(target=ask_and_stop, args=(url,)).start()

        self.assertEqual(run({"PORT": "0"}, started), 0)
        self.assertEqual(seen, [200])

    def test_a_bad_port_is_refused(self):
        self.assertEqual(run({"PORT": "eighty"}), 64)

    def test_a_taken_port_is_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.assertEqual(run({"PORT": str(taken.getsockname()[1])}), 1)


class ProcessTest(unittest.TestCase):
    def test_it_ends_with_code_0_on_sigterm(self):
        process = subprocess.Popen(
            [sys.executable, "-m", "app"],
            cwd=ROOT,
            env={**os.environ, "PORT": "0", "HOST": "127.0.0.1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url = process.stdout.readline().split()[-1]
            self.assertEqual(status_of(f"{url}/"), 200)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=10)
            self.assertEqual(process.returncode, 0)
            self.assertTrue(output.endswith("stopped\n"), output)
        finally:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    unittest.main()
