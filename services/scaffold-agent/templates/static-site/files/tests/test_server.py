import http.client
import json
import socket
import tempfile
import threading
import unittest
from pathlib import Path

from app.healthcheck import is_healthy
from app.pages import Site
from app.server import Server
from app.settings import NAME, Settings


class ServerTest(unittest.TestCase):
    site = None

    def setUp(self):
        self.server = Server(Settings(port=0), self.site)
        self.loop = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.loop.start()
        self.port = self.server.server_address[1]
        self.client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def tearDown(self):
        self.client.close()
        self.server.shutdown()
        self.server.close_gracefully()
        self.loop.join()

    def ask(self, method, path, body=None, **headers):
        self.client.request(method, path, body, headers)
        response = self.client.getresponse()
        return response, response.read()


class SiteTest(ServerTest):
    def test_the_first_page_names_the_app(self):
        response, body = self.ask("GET", "/?utm_source=x")
        self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertIn(f"<h1>{NAME}</h1>", body.decode())

    def test_health_is_json(self):
        response, body = self.ask("GET", "/health")
        self.assertEqual(response.status, 200)
        self.assertEqual(json.loads(body), {"status": "ok", "name": NAME})

    def test_the_health_check_sees_a_running_service_and_only_that(self):
        self.assertTrue(is_healthy(self.port))
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.assertFalse(is_healthy(unused.getsockname()[1]))

    def test_a_page_that_the_reader_has_is_not_sent_again(self):
        etag = self.ask("GET", "/style.css")[0].headers["ETag"]
        response, body = self.ask("GET", "/style.css", **{"If-None-Match": etag})
        self.assertEqual((response.status, body), (304, b""))
        self.assertEqual(self.ask("GET", "/", **{"If-None-Match": etag})[0].status, 200)

    def test_unknown_paths_get_the_page_for_them(self):
        for path in ("/nothing", "/../app/server.py", "/%2e%2e/app/server.py", "/site", "/%00"):
            with self.subTest(path):
                response, body = self.ask("GET", path)
                self.assertEqual(response.status, 404)
                self.assertIn("Not found", body.decode())

    def test_head_has_headers_and_no_body(self):
        response, body = self.ask("HEAD", "/")
        self.assertEqual(response.status, 200)
        self.assertGreater(int(response.headers["Content-Length"]), 0)
        self.assertEqual(body, b"")

    def test_other_methods_are_refused_and_the_connection_closed(self):
        response, _ = self.ask("POST", "/", b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(response.status, 405)
        self.assertEqual(response.headers["Allow"], "GET, HEAD")
        self.assertEqual(response.headers["Connection"], "close")

    def test_closing_does_not_wait_for_an_idle_connection(self):
        self.ask("GET", "/health")
        self.server.shutdown()
        self.server.close_gracefully()
        self.loop.join(timeout=5)
        self.assertFalse(self.loop.is_alive())


class EmptySiteTest(ServerTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.site = Site(Path(folder.name))
        super().setUp()

    def test_everything_but_health_is_unknown(self):
        self.assertEqual(self.ask("GET", "/")[0].status, 404)
        self.assertEqual(self.ask("GET", "/health")[0].status, 200)


if __name__ == "__main__":
    unittest.main()
