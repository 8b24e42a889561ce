"""What the sample services share: an HTTP server around one function from a path to an answer."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Callable

# (status, content type, body)
Answer = tuple[int, str, bytes]


class Server(ThreadingTCPServer):
    """Unlike `http.server.HTTPServer`, it asks nobody for its own name when it starts."""

    allow_reuse_address = True
    daemon_threads = True


def serve(name: str, answer: Callable[[str], Answer]) -> None:
    """Serves on the port in the variable PORT, 8080 by default, until the process ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, content_type, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    port = int(os.environ.get("PORT", "8080"))
    server = Server(("", port), Handler)
    print(f"{name}: listening on port {port}", flush=True)
    server.serve_forever()
