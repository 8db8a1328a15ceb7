"""JSON over HTTP with one service: the key stays in the environment, and everything has a bound."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..core import ConfigError
from .address import parse_address
from .errors import ServiceError
from .events import events
from .line import Line
from .patience import Patience, seconds_after

_T = TypeVar("_T")
_OPENAI_HOST, _OPENAI_KEY = "api.openai.com", "OPENAI_API_KEY"
_DONE = b"[DONE]"  # ends a stream
_LONGEST_LINE = 1 << 20  # bytes of a stream
_SHOWN = 500  # characters of a message of the service
_COMPLAINT = 1 << 16  # bytes of an answer that is an error
_OVER = ("insufficient_quota",)  # refusals with the status "for now" that waiting does not change


class Endpoint:
    """The service at ``base_url``, such as ``https://api.openai.com/v1``.

    The key is read from the environment variable ``key_variable`` whenever one is sent, is kept nowhere, and is cut out
    of what the service says. If none is named, OpenAI's own service (``official``) gets the key in ``OPENAI_API_KEY``
    and every other none. Redirects are not followed, as the key would go along; proxies are not used. Answers of more
    than ``most_bytes`` are refused. ``plain_http`` allows http:// to other machines than this one. Raises ConfigError
    for an address or variable that cannot be.
    """

    def __init__(
        self,
        *,
        base_url: str,
        key_variable: str | None = None,
        patience: Patience = Patience(),  # noqa: B008  it is immutable
        most_bytes: int = 1 << 24,
        plain_http: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._secure, self.host, self._port, self._folder = parse_address(base_url, plain_http)
        if key_variable is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", key_variable):
            raise ConfigError(
                "key_variable: expected the name of an environment variable (capital letters, digits and _), "
                "never the key itself"
            )
        self.official = self.host == _OPENAI_HOST
        self._key_variable = key_variable or (_OPENAI_KEY if self.official else None)
        self._patience = patience
        self._most_bytes, self._sleep = most_bytes, sleep

    def get(self, path: str) -> Any:
        """The JSON at ``path``. Raises ServiceError, as the others do."""
        return self._persist(lambda: self._whole("GET", path, None))

    def post(self, path: str, body: Any) -> Any:
        """The JSON with which the service answers the JSON ``body``."""
        sent = _dumped(body)
        return self._persist(lambda: self._whole("POST", path, sent))

    def stream(self, path: str, body: Any) -> Iterator[Any]:
        """The same as one JSON value after the other. Once the first bytes have come it is not asked again."""
        sent = _dumped(body)
        exchange = self._persist(lambda: self._begin("POST", path, sent, "text/event-stream"))
        try:
            with self._named():
                kind = exchange.response.headers.get_content_type()
                if kind != "text/event-stream":
                    raise self._error(f"answered with {kind}, expected a stream (text/event-stream)")
                for data in events(self._lines(exchange)):
                    if data == _DONE:
                        return
                    value = self._parsed(data)
                    if isinstance(value, dict) and value.get("error"):
                        raise self._error(f"broke the stream off: {_complaint(data)[0]}")
                    yield value
                    exchange.line.anew()  # what the reader took does not count
        finally:
            exchange.close()

    def _persist(self, attempt: Callable[[], _T]) -> _T:
        """The result of an attempt, repeated as patience allows."""
        count = 0
        while True:
            try:
                return attempt()
            except ServiceError as error:
                share = random.random()
                pause = self._patience.pause(count, error.after, share) if error.passing else None
                if pause is None:
                    raise
            self._sleep(pause)
            count += 1

    def _whole(self, method: str, path: str, body: bytes | None) -> Any:
        exchange = self._begin(method, path, body, "application/json")
        try:
            with self._named():
                return self._parsed(self._content(exchange))
        finally:
            exchange.close()

    def _begin(self, method: str, path: str, body: bytes | None, accept: str) -> _Exchange:
        """An answer of which only the head is read, and that is no error."""
        key = self._key()
        headers = {"Accept": accept, "User-Agent": "sensorium", "Connection": "close"}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        with self._named():
            exchange = _Exchange(self._connection(), self._patience.timeout)
            try:
                exchange.ask(method, self._folder + path, body, headers)
                if exchange.response.status != 200:
                    raise self._refusal(exchange)
            except BaseException:
                exchange.close()
                raise
        return exchange

    def _connection(self) -> http.client.HTTPConnection:
        timeout = self._patience.timeout
        if not self._secure:
            return http.client.HTTPConnection(self.host, self._port, timeout=timeout)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(self.host, self._port, timeout=timeout, context=context)

    def _key(self) -> str | None:
        if self._key_variable is None:
            return None
        key = os.environ.get(self._key_variable, "").strip()
        if not key:
            raise ConfigError(
                f"the environment variable {self._key_variable} is not set: the key for {self.host}"
            )
        if not re.fullmatch(r"[!-~]+", key):
            raise ConfigError(f"the environment variable {self._key_variable} holds what cannot be a key")
        return key

    def _content(self, exchange: _Exchange) -> bytes:
        response, most = exchange.response, self._most_bytes
        if (response.length or 0) > most:
            raise self._error(f"the answer has {response.length:,} bytes, the limit is {most:,}")
        content = response.read(most + 1)
        if len(content) > most:
            raise self._error(f"the answer has more than {most:,} bytes")
        if response.length:
            raise http.client.IncompleteRead(content, response.length)
        return content

    def _lines(self, exchange: _Exchange) -> Iterator[bytes]:
        left = self._most_bytes
        while line := exchange.response.readline(_LONGEST_LINE + 1):
            left -= len(line)
            if len(line) > _LONGEST_LINE or left < 0:
                raise self._error(f"the stream has more than {self._most_bytes:,} bytes or too long a line")
            yield line

    def _parsed(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise self._error(f"answered with what is not JSON: {content[:40]!r}") from None

    def _refusal(self, exchange: _Exchange) -> ServiceError:
        """What an answer that is an error says."""
        response = exchange.response
        status = response.status
        if 300 <= status < 400:
            aim = urlsplit(response.headers.get("Location", "")).hostname or "elsewhere"
            return self._error(f"redirects to {aim} (status {status}), which is not followed", status=status)
        message, code = _complaint(response.read(_COMPLAINT))
        hint = "; no key was sent: name its environment variable (key_variable)"
        return self._error(
            f"status {status} ({response.reason}): {message[:_SHOWN] or 'without a message'}"
            + (hint if status in (401, 403) and self._key_variable is None else ""),
            status=status,
            passing=(status in (408, 429) or status >= 500) and code not in _OVER,
            after=seconds_after(response.headers.get("Retry-After")),
        )

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what can happen to a connection into a ServiceError."""
        try:
            yield
        except TimeoutError:
            raise self._error(f"no answer within {self._patience.timeout:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise self._error(f"its certificate is not trusted: {error.verify_message}") from None
        except socket.gaierror as error:
            passing = error.errno == socket.EAI_AGAIN
            raise self._error(f"there is no such host ({error.strerror})", passing=passing) from None
        except http.client.IncompleteRead:
            raise self._error("the connection broke off before the answer was whole", passing=True) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise self._error(f"the connection failed ({reason})", passing=True) from None

    def _error(self, reason: str, **more: Any) -> ServiceError:
        return ServiceError(f"{self.host}: {_clean(reason, self._key())}", **more)


class _Exchange:
    """One request and the answer to it."""

    def __init__(self, connection: http.client.HTTPConnection, seconds: float) -> None:
        connection.connect()
        self._connection = connection
        self.line = Line(connection.sock, seconds)
        connection.sock = self.line

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        self._connection.request(method, path, body, headers)
        self.response = self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()
        self.line.hang_up()


def _dumped(body: Any) -> bytes:
    return json.dumps(body, allow_nan=False).encode()


def _complaint(content: bytes) -> tuple[str, str | None]:
    """The message and the code of an error, in one of the forms that services use."""
    text = content.decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text, None
    if isinstance(found, dict):
        found = found.get("error", found)
    if not isinstance(found, dict):
        return found if isinstance(found, str) else text, None
    message, code = found.get("message", found.get("detail")), found.get("code")
    return message if isinstance(message, str) else text, code if isinstance(code, str) else None


def _clean(message: str, key: str | None) -> str:
    """A message on one line, without the key: whole, or as services show parts of it."""
    if key:
        message = message.replace(key, "[key]")
    message = re.sub(r"\bsk-[\w*.-]+", "[key]", message)
    return " ".join("".join(c if c.isprintable() else " " for c in message).split())
