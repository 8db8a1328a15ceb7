"""A service on this machine that plays what it is told to, request by request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sensorium.providers import Patience, Remote

KEY = "sk-secret-0123456789"
QUICK = Patience(timeout=5.0, retries=3, first=0.001, longest=0.01)

#: What the service does with one request.
Act = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Notes the request, and does the next of the acts; the last one is repeated."""

    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            acts = self.server.acts
            self.act = acts.pop(0) if len(acts) > 1 else acts[0]
        self.body = body
        self.close_connection = True
        self.act(self)

    do_GET = do_POST

    def head(self, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


class Service(ThreadingHTTPServer):
    """``requests``: the path, headers and JSON of each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.acts: list[Act] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.requests]

    def play(self, *acts: Act) -> None:
        self.acts = list(acts)

    def remote(self, **settings: Any) -> Remote:
        given = {"model": "m", "base_url": self.url, "key_variable": "TEST_KEY", "patience": QUICK}
        return Remote(**{**given, **settings})

    def handle_error(self, *arguments: Any) -> None:
        """A client that hangs up is what some tests are about."""


def replies(value: Any, status: int = 200, **headers: str) -> Act:
    """The JSON ``value``, or bytes as they are."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()

    def act(handler: Handler) -> None:
        handler.head(status, **{"Content_Length": str(len(content)), **headers})
        handler.wfile.write(content)

    return act


def says(text: str | None, finish: str | None = "stop", **more: Any) -> Act:
    """A chat completion."""
    message = {"role": "assistant", "content": text, **more}
    return replies({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Act:
    return replies({"error": {"message": message, "type": "t", "code": code}}, status, **headers)


def streams(*lines: str | bytes, pause: float = 0.0) -> Act:
    """A stream of such lines; the connection closes after them."""

    def act(handler: Handler) -> None:
        handler.head(kind="text/event-stream; charset=utf-8")
        for line in lines:
            handler.wfile.write(line.encode() if isinstance(line, str) else line)
            handler.wfile.flush()
            time.sleep(pause)

    return act


def chunk(text: str | None = None, finish: str | None = None) -> str:
    """The event of a piece of an answer."""
    delta = {} if text is None else {"content": text}
    return f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': finish}]})}\n\n"


def drips(content: bytes, pause: float) -> Act:
    """An answer that comes byte by byte, head and all."""

    def act(handler: Handler) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + content:
            handler.wfile.write(bytes([byte]))
            time.sleep(pause)

    return act
