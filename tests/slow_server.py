"""A storage server that is too slow: it accepts connections, and answers never or drop by drop."""

import contextlib
import socket
import threading


class SlowServer:
    """Use as a context manager. `answer` is sent byte by byte, each when the one before has been waited for."""

    def __init__(self, answer=b"", seconds=0.02):
        self._answer, self._seconds = answer, seconds
        self._server = socket.create_server(("127.0.0.1", 0))
        self._over, self._connections = threading.Event(), []
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.requests = 0

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._server.close()
        for connection in self._connections:
            connection.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError):
            connection.recv(65536)
            self.requests += 1
            head, separator, body = self._answer.partition(b"\r\n\r\n")
            connection.sendall(head + separator)
            for i in range(len(body)):
                if self._over.wait(self._seconds):
                    return
                connection.sendall(body[i : i + 1])
            self._over.wait()
