"""Answers requests. Knows nothing of processes and signals."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from app.settings import NAME, REQUEST_LOG, Settings

PAGE = (Path(__file__).parent / "page.html").read_bytes()
HTML = "text/html; charset=utf-8"
JSON = "application/json"
# What a browser may load for a page of ours.
CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def answer(path: str) -> "tuple[int, str, bytes]":
    """Status, media type and body for a path."""
    if path == "/":
        return 200, HTML, PAGE
    if path == "/health":
        return 200, JSON, as_json({"status": "ok", "name": NAME})
    return 404, JSON, as_json({"error": "no such page"})


def as_json(value) -> bytes:
    return json.dumps(value).encode()


class Handler(BaseHTTPRequestHandler):
    """Reads one connection's requests, one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = NAME
    sys_version = ""
    # Seconds that a silent connection is kept.
    timeout = 30

    def do_GET(self):
        self.respond(*answer(self.path.partition("?")[0]))

    do_HEAD = do_GET

    def refuse_method(self):
        # The body was not read: what follows on this connection is not a request.
        self.close_connection = True
        self.respond(405, JSON, as_json({"error": "only GET and HEAD"}), {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = refuse_method

    def respond(self, status, media_type, body, headers=None):
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", CONTENT_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        if REQUEST_LOG:
            # A request that could not be read has neither method nor path.
            path = getattr(self, "path", None)
            entry = {"method": self.command, "path": path, "status": int(code)}
            print(json.dumps(entry), flush=True)

    def log_message(self, format, *arguments):
        print(json.dumps({"message": format % arguments}), flush=True)


class Server(ThreadingHTTPServer):
    """Listens from the moment it is made; answers while `serve_forever` runs."""

    request_queue_size = 128
    daemon_threads = False
    block_on_close = True

    def __init__(self, settings: Settings):
        self._connections = set()
        self._guard = threading.Lock()
        super().__init__((settings.host, settings.port), Handler)

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host}:{port}"

    def server_bind(self):
        # The base class asks the name service for our name, which can take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request, client_address):
        with self._guard:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with self._guard:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_gracefully(self):
        """Answers the requests that have begun, then closes. Call it after `serve_forever`."""
        with self._guard:
            for connection in self._connections:
                try:
                    # Whoever waits for a further request reads the end instead.
                    connection.shutdown(socket.SHUT_RD)
                except OSError:
                    pass  # The other side was faster.
        self.server_close()
