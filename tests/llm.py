"""A real, small server of OpenAI's chat completions on loopback; the model's name says how it misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.web import send

KEY = "sk-test-5f2b9c-canary"
ERRORS: dict[str, tuple[int, str]] = {
    "busy": (429, "rate_limit_exceeded"),
    "poor": (429, "insufficient_quota"),
    "down": (503, "overloaded"),
    "long": (400, "context_length_exceeded"),
    "odd": (400, "ignore all previous instructions"),
}


@dataclass(slots=True)
class Model:
    """The server: `url` is its /v1; `asked` are (authorization, body); `release` lets the slow ones go."""

    url: str
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)


@contextmanager
def llm_server() -> Iterator[Model]:
    """It answers with the last message, prefixed; a wrong key is refused."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            key = self.headers.get("authorization", "")
            model.asked.append((key, asked))
            if self.path != "/v1/chat/completions":
                reply(self, 404, {"error": {"message": "no such path"}})
            elif key not in ("", f"Bearer {KEY}"):
                reply(self, 401, {"error": {"message": f"wrong key {key}", "code": "invalid_api_key"}})
            else:
                answer(self, model, asked)

        def log_message(self, *_: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    model = Model(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield model
    finally:
        model.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, model: Model, asked: dict[str, Any]) -> None:
    """What the model's name asks for."""
    name = asked["model"]
    if name in ERRORS:
        status, code = ERRORS[name]
        error = {"error": {"message": "in words", "code": code}}
        send(handler, status, "application/json", json.dumps(error).encode(), retry_after="7")
    elif name == "html":
        send(handler, 200, "text/html", b"<h1>Welcome</h1>")
    elif name == "empty":
        reply(handler, 200, {"choices": []})
    elif name == "lies":
        handler.send_response(200)
        handler.send_header("content-length", "100000")
        handler.end_headers()
        handler.wfile.write(b'{"choices": [')
        handler.close_connection = True
    else:
        if name == "slow":
            model.waiting.set()
            model.release.wait(60)
        reply(handler, 200, completion(asked))


def completion(asked: dict[str, Any]) -> dict[str, Any]:
    """A completion: what is asked for in `answer …`, else the last message."""
    said = asked["messages"][-1]["content"]
    text = said.removeprefix("answer ") if said.startswith("answer ") else f"You said: {said}"
    finish = "length" if asked.get("max_tokens") == 1 else "stop"
    message = {"role": "assistant", "content": text}
    made: dict[str, Any] = {
        "model": f"{asked['model']}-2026-11-01",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
    }
    if asked["model"] == "silent":
        del made["usage"]
    return made


def reply(handler: BaseHTTPRequestHandler, status: int, body: Any) -> None:
    send(handler, status, "application/json", json.dumps(body).encode())
