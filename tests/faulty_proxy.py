"""A proxy that makes a storage server fail: `python tests/faulty_proxy.py PORT UPSTREAM_PORT SHARE LOG`.

Of SHARE of the requests, some are answered with 503 SlowDown, some lose their connection before and some after they
were carried out, and some answers end in the middle. LOG gets a line for each request that was carried out.

While there is a file LOG.hold, an upload whose path has its text in it gets no answer; LOG gets a line when it comes,
and its connection is lost when the file is gone. So a test knows that a worker is in the middle of it.
"""

import contextlib
import http.client
import random
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream, share, log = 0, 0.0, None
    lock = threading.Lock()

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = random.choice(("slow down", "cut before", "cut after", "cut short"))
        if random.random() >= self.share:
            fault = ""
        if self.is_held():
            self.note("held")
            while self.is_held():
                time.sleep(0.05)
            return self.cut()
        if fault == "slow down":
            return self.answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
        if fault == "cut before":
            return self.cut()
        server = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        server.request(self.command, self.path, body, dict(self.headers.items()))
        response = server.getresponse()
        data = response.read()
        server.close()
        self.note(response.status)
        if fault == "cut after":
            return self.cut()
        headers = [item for item in response.getheaders() if item[0].lower() not in ("connection", "transfer-encoding")]
        if self.command != "HEAD" and fault == "cut short" and len(data) > 1:
            self.answer(response.status, headers, data, sent=len(data) // 2)
            return self.cut()
        return self.answer(response.status, headers, data)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    def is_held(self):
        with contextlib.suppress(FileNotFoundError):
            return self.command == "PUT" and Path(f"{self.log.name}.hold").read_text() in self.path
        return False

    def note(self, status):
        with self.lock:
            print(self.command, status, self.path, file=self.log, flush=True)

    def answer(self, status, headers, data, sent=None):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:sent])

    def cut(self):
        """Reset the connection, as a broken one looks to its other end."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def handle(self):
        with contextlib.suppress(OSError, ValueError):  # it is gone; ValueError where we closed it
            super().handle()

    def finish(self):
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    port, Proxy.upstream, Proxy.share = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    ThreadingHTTPServer.request_queue_size = 128
    with open(sys.argv[4], "a") as Proxy.log:
        ThreadingHTTPServer(("127.0.0.1", port), Proxy).serve_forever()
