"""A proxy on the loopback address that fails on purpose: python tests/attacks/proxy.py PORT TARGET_PORT FAULT SEED.

ok: passes on; half: every second request, by chance, gets 500; after: it is passed on and answered with 500; slow: 5 s
before each; hang: never answers; drop: closes in the middle of an answer, half of the time.
"""

import http.client
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEPT_BACK = ("host", "connection", "transfer-encoding", "content-length")


class Proxy(ThreadingHTTPServer):
    """The server.

    Args:
        port: where it listens. target: the port it passes requests to. fault: what it does wrong. seed: draws when.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, target: int, fault: str, seed: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.target, self.fault = target, fault
        self._draw, self._lock = random.Random(seed), threading.Lock()

    def fails(self) -> bool:
        """Whether this request is to go wrong."""
        with self._lock:
            return self._draw.random() < 0.5

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the other side is gone on purpose."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def pass_on(self) -> None:
        """Pass a request on, and its answer back, as far as the fault lets it."""
        fault, fails = self.server.fault, self.server.fails()
        body = self._body()
        time.sleep({"hang": 3600, "slow": 5}.get(fault, 0))
        if fault == "half" and fails:
            self._answer(500, [], b"oops")
            return
        status, headers, data = self._asked(body)
        if fault == "after" and fails:
            status, headers, data = 500, [], b"oops"
        cut = len(data) // 2 if fault == "drop" and fails else len(data)
        self._answer(status, headers, data, cut)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in KEPT_BACK}
        try:
            link.request(self.command, self.path, body, headers)
            answer = link.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        except OSError:
            return 500, [], b"oops"

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in KEPT_BACK:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else data[:cut])
        self.close_connection = cut is not None and cut < len(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = pass_on  # noqa: N815  (as the library calls them)


if __name__ == "__main__":
    Proxy(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])).serve_forever()
