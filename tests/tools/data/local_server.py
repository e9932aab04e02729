"""A server on this machine that gives files, and misbehaves as told."""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

QUOTA_PAGE = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head>"
    b"<body>Too many users have viewed or downloaded this file recently.</body></html>"
)


@dataclass
class File:
    """A file on the server and what goes wrong with it.

    Attributes:
        body: its bytes.
        faults: one for each request, then none: a status (500), "cut N" (reset after N bytes of
            the answer), "truncate N" (a clean end after N bytes), "corrupt" (the last byte), "page"
            (a web page instead).
        ranges: whether it honours Range.
        etag: its validator, "" for none.
        modified: its Last-Modified, "" for none.
        kind: its Content-Type.
        shift: how many bytes too late a continued answer begins.
        length: whether it states Content-Length.
        redirect: path of another file to go to.
    """

    body: bytes = b""
    faults: list[str | int] = field(default_factory=list)
    ranges: bool = True
    etag: str = '"1"'
    modified: str = ""
    kind: str = "application/octet-stream"
    shift: int = 0
    length: bool = True
    redirect: str = ""


class Server:
    """Files by path, and the requests that came: (path, Range or "")."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.requests: list[tuple[str, str]] = []
        self.validators: list[str] = []  # the If-Range of each request
        self.address = ""

    def url(self, path: str) -> str:
        """Full address of a file."""
        return f"{self.address}{path}"

    @property
    def ranges(self) -> list[str]:
        """The Range of each request, "" for none."""
        return [asked for _, asked in self.requests]


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs meanwhile."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, server)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with mock.patch.dict(os.environ, no_proxy="*"):
            yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, server: Server) -> None:
    """Answer one request."""
    asked = handler.headers.get("Range", "")
    server.requests.append((handler.path, asked))
    server.validators.append(handler.headers.get("If-Range", ""))
    file = server.files.get(handler.path)
    if file is None:
        handler.send_error(404)
        return
    fault = file.faults.pop(0) if file.faults else ""
    if isinstance(fault, int):
        handler.send_error(fault)
        return
    if file.redirect:
        handler.send_response(302)
        handler.send_header("Location", file.redirect)
        handler.end_headers()
        return
    if fault == "page":
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.send_header("Content-Length", str(len(QUOTA_PAGE)))
        handler.end_headers()
        handler.wfile.write(QUOTA_PAGE)
        return
    start = _start(handler, file, asked)
    if start is None:
        return
    body = file.body[start:]
    if fault == "corrupt":
        body = body[:-1] + bytes([body[-1] ^ 1])
    if isinstance(fault, str) and fault.startswith("cut"):
        handler.wfile.write(body[: int(fault.split()[1])])
        handler.wfile.flush()
        _reset(handler)
        return
    if isinstance(fault, str) and fault.startswith("truncate"):
        body = body[: int(fault.split()[1])]
    handler.wfile.write(body)


def _start(handler: BaseHTTPRequestHandler, file: File, asked: str) -> int | None:
    """Send the head of an answer; the first byte to send, None when there is nothing to send."""
    start, status = 0, 200
    match = re.fullmatch(r"bytes=(\d+)-", asked)
    same = handler.headers.get("If-Range", file.etag) in (file.etag, file.modified)
    if match and file.ranges and same:
        start, status = int(match[1]) + file.shift, 206
    if start and start >= len(file.body):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(file.body)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None
    handler.send_response(status)
    handler.send_header("Content-Type", file.kind)
    if status == 206:
        end = len(file.body) - 1
        handler.send_header("Content-Range", f"bytes {start}-{end}/{len(file.body)}")
    if file.etag:
        handler.send_header("ETag", file.etag)
    if file.modified:
        handler.send_header("Last-Modified", file.modified)
    if file.length:
        handler.send_header("Content-Length", str(len(file.body) - start))
    handler.end_headers()
    return start


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """End the connection as a crashed server does: with a reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
