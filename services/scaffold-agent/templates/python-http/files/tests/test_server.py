import http.client
import json
import socket
import threading
import unittest

from app.healthcheck import is_healthy
from app.server import Server
from app.settings import NAME, Settings


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.server = Server(Settings(port=0))
        self.loop = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.loop.start()
        self.port = self.server.server_address[1]
        self.client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def tearDown(self):
        self.client.close()
        self.server.shutdown()
        self.server.close_gracefully()
        self.loop.join()

    def ask(self, method, path, body=None):
        self.client.request(method, path, body)
        response = self.client.getresponse()
        return response, response.read()

    def test_the_page_names_the_app(self):
        response, body = self.ask("GET", "/")
        self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertIn(f"<h1>{NAME}</h1>", body.decode())

    def test_health_is_json(self):
        response, body = self.ask("GET", "/health?verbose=1")
        self.assertEqual(response.status, 200)
        self.assertEqual(json.loads(body), {"status": "ok", "name": NAME})

    def test_the_health_check_sees_a_running_service_and_only_that(self):
        self.assertTrue(is_healthy(self.port))
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.assertFalse(is_healthy(unused.getsockname()[1]))

    def test_unknown_paths_are_404(self):
        for path in ("/nothing", "/health/", "/../etc/passwd"):
            with self.subTest(path):
                self.assertEqual(self.ask("GET", path)[0].status, 404)

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

    def test_one_connection_serves_many_requests(self):
        for _ in range(3):
            self.assertEqual(self.ask("GET", "/health")[0].status, 200)

    def test_a_malformed_request_is_answered_with_400(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            self.assertIn(b"400", raw.recv(1024))

    def test_closing_does_not_wait_for_an_idle_connection(self):
        self.ask("GET", "/health")
        self.server.shutdown()
        self.server.close_gracefully()
        self.loop.join(timeout=5)
        self.assertFalse(self.loop.is_alive())


if __name__ == "__main__":
    unittest.main()
