"""A real HTTP server on loopback that does as its path says, and remembers what it was asked."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ZEROS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; header names in lower case, each with all its values."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, list[str]]
    body: bytes
    raw_path: str = ""


@dataclass(slots=True)
class Web:
    """The server: `answers` are (content type, body) by path, with 200 or their status in `statuses`; `headers` are
    added to every answer.

    `release` lets the slow ones go.
    """

    url: str
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)


@contextmanager
def web_server() -> Iterator[Web]:
    """/echo, /echo64, /status/<code>, /slow, /redirect, /bomb, … (see `answer`), and whatever `answers` holds."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length", 0))
            headers: dict[str, list[str]] = {}
            for name, value in self.headers.items():
                headers.setdefault(name.lower(), []).append(value)
            body = self.rfile.read(length)
            asked = Asked(self.command, parts.path, parse_qs(parts.query), headers, body, self.path)
            web.asked.append(asked)
            answer(self, web, asked)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

        def send_header(self, keyword: str, value: str) -> None:
            """The test's own headers instead of those of the same name."""
            super().send_header(keyword, web.headers.get(keyword.lower(), value))

        def end_headers(self) -> None:
            """Those of the test's that are not sent yet, and the end."""
            for name, value in web.headers.items():
                if name != "date":
                    super().send_header(name, value)
            super().end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Web(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        web.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, web: Web, asked: Asked) -> None:
    """Write the answer that the path asks for; /redirect?to=URL&status=307 leads anywhere."""
    if asked.path in web.answers:
        send(handler, web.statuses.get(asked.path, 200), *web.answers[asked.path])
    elif asked.path in ("/echo", "/echo64"):
        seen = {"headers": asked.headers, "query": asked.query, "body": asked.body.decode()}
        text = json.dumps(seen).encode()
        send(handler, 200, "application/json", text if asked.path == "/echo" else packed(text))
    elif asked.path.startswith("/status/"):
        send(handler, int(asked.path.rsplit("/", 1)[1]), "application/json", b'{"why": "asked"}')
    elif asked.path == "/slow":
        web.release.wait(30)
        send(handler, 200, "text/plain", b"at last")
    elif asked.path == "/redirect":
        status, target = asked.query.get("status", ["302"]), asked.query.get("to", [f"{web.url}/echo"])
        send(handler, int(status[0]), "text/plain", b"", location=target[0])
    else:
        status_, body, headers = special(asked.path)
        send(handler, status_, "text/plain", body, **headers)


def special(path: str) -> tuple[int, bytes, dict[str, str]]:
    """Answers that try what a client bears: status, body and headers."""
    if path == "/bomb":
        return 200, gzip.compress(bytes(ZEROS), compresslevel=9), {"content_encoding": "gzip"}
    if path == "/double-bomb":
        return 200, gzip.compress(gzip.compress(bytes(ZEROS))), {"content_encoding": "gzip, gzip"}
    if path == "/broken-gzip":
        return 200, b"this is no gzip", {"content_encoding": "gzip"}
    if path == "/cookie":
        return 200, b"", {"set_cookie": "session=1; Path=/"}
    return (204, b"", {}) if path == "/nothing" else (404, b"nothing here", {})


def packed(text: bytes) -> bytes:
    """The same in Base64, within a JSON string."""
    return json.dumps(base64.b64encode(text).decode()).encode()


def send(handler: BaseHTTPRequestHandler, status: int, kind: str, body: bytes, **headers: str) -> None:
    """One whole response; a client that has gone is no matter."""
    try:
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
    except (BrokenPipeError, ConnectionResetError):
        handler.close_connection = True
