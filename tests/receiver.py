"""A receiver of events: a web server on this machine that answers as a test says, and keeps what it got."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Got:
    """A request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def event(self):
        return json.loads(self.body)


class ReceiverServer:
    """Use as a context manager. `answer(event, so many times it came before)` gives the status."""

    def __init__(self, answer: Callable[[dict, int], int] = lambda event, before: 204, headers=(), tls=None):
        self.got: list[Got] = []
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                found = {name.lower(): value for name, value in self.headers.items()}
                with owner._lock:
                    before = sum(one.headers["webhook-id"] == found["webhook-id"] for one in owner.got)
                    owner.got.append(Got(self.path, found, body))
                self.send_response(answer(json.loads(body), before))
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"http{'' if tls is None else 's'}://localhost:{self.port}/hook?room=1"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def types(self):
        return [one.event["type"] for one in self.got]
