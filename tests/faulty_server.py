"""An HTTP server on loopback that supports ranges and fails on demand."""

import re
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultyServer(ThreadingHTTPServer):
    """Serves ``files`` (path -> content) and records the requests as (path, range).

    faults: what to do with the next requests, first come, first served:
        ("status", N) answers with status N, ("break", N) closes the connection after N bytes of content,
        ("stop", N) sends N bytes and then nothing, ("slow", SECONDS) waits before each half of the content,
        ("flip", N) changes byte N of the content, None answers correctly.
    etags: path -> ETag; without one, only the size is known.
    ranges: whether ranges are supported.
    chunked: whether the size is not stated.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.etags, self.faults, self.requests = {}, {}, [], []
        self.ranges, self.chunked, self.closing = True, False, threading.Event()

    def put(self, path, content, etag=None):
        """Add or replace a file, and return its URL."""
        self.files[path], self.etags[path] = content, etag
        return self.url(path)

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, requested = self.path.partition("?")[0], self.headers.get("Range")
        self.server.requests.append((path, requested))
        kind, value = (self.server.faults.pop(0) if self.server.faults else None) or (None, 0)
        if kind == "status" or path not in self.server.files:
            self.send_error(value or 404)
            return
        content, start = self.server.files[path], 0
        if kind == "flip":
            content = content[:value] + bytes([content[value] ^ 1]) + content[value + 1 :]
        if requested and self.server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", requested)[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if etag := self.server.etags[path]:
            self.send_header("ETag", f'"{etag}"')
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.send_content(content[start:], kind, value)

    def send_content(self, content, kind, value):
        if kind == "slow":
            for part in (content[: len(content) // 2], content[len(content) // 2 :]):
                time.sleep(value)
                self.wfile.write(part)
                self.wfile.flush()
            return
        part = content[:value] if kind in ("break", "stop") else content
        self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if self.server.chunked else part)
        if kind == "stop":
            self.server.closing.wait(30)
        if kind in ("break", "stop"):
            self.close_connection = True
        elif self.server.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def handle(self):
        with suppress(ConnectionError):  # The client has closed the connection.
            super().handle()

    def log_message(self, *_):
        pass


@contextmanager
def faulty_server():
    """Run a server until the block ends."""
    server = FaultyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
