"""What can go wrong between us and a service, and that the key stays where it is."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Iterator

import pytest
from providers.service import (
    KEY,
    QUICK,
    Act,
    Service,
    chunk,
    drips,
    fails,
    replies,
    says,
    streams,
)

from sensorium.core import ConfigError
from sensorium.providers import Patience, ServiceError
from sensorium.providers.endpoint import Endpoint

USER = [{"role": "user", "content": "hi"}]


def endpoint(service: Service, **settings: object) -> Endpoint:
    return Endpoint(**{"base_url": service.url, "key_variable": "TEST_KEY", "patience": QUICK, **settings})


def test_json_goes_and_comes(service: Service):
    service.play(replies({"fine": [1, "ä"]}))
    assert endpoint(service).post("/x", {"say": "é"}) == {"fine": [1, "ä"]}
    assert endpoint(service).get("/models") == {"fine": [1, "ä"]}
    (path, headers, body), (other, _, nothing) = service.requests
    assert (path, body, other, nothing) == ("/v1/x", {"say": "é"}, "/v1/models", None)
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(service: Service, status: int):
    service.play(fails(status), fails(status), replies({"ok": 1}))
    pauses: list[float] = []
    found = endpoint(service, sleep=pauses.append, patience=Patience(timeout=5, first=8, retries=2)).post(
        "/x", 1
    )
    assert found == {"ok": 1}
    assert len(service.requests) == 3
    assert 4 <= pauses[0] <= 8 <= pauses[1] <= 16


def test_the_service_says_how_long(service: Service):
    service.play(fails(429, Retry_After="7"), replies({}))
    pauses: list[float] = []
    endpoint(service, sleep=pauses.append, patience=Patience(longest=9)).get("/x")
    assert pauses == [7]
    service.play(fails(503, Retry_After="3600"))
    with pytest.raises(ServiceError, match="status 503") as caught:
        endpoint(service, sleep=pauses.append, patience=Patience(longest=9)).get("/x")
    assert pauses == [7]
    assert (caught.value.status, caught.value.passing, caught.value.after) == (503, True, 3600)


def test_patience_ends(service: Service):
    service.play(fails(500, "out of order"))
    with pytest.raises(
        ServiceError, match=r"127\.0\.0\.1: status 500 \(Internal Server Error\): out of order"
    ):
        endpoint(service).get("/x")
    assert len(service.requests) == 1 + QUICK.retries


@pytest.mark.parametrize("act", [fails(400), fails(401), fails(404), fails(429, code="insufficient_quota")])
def test_what_will_not_pass_is_not_tried_again(service: Service, act: Act):
    service.play(act)
    with pytest.raises(ServiceError):
        endpoint(service).get("/x")
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "too long", "code": 1}}, "too long"),
        ({"error": "plain"}, "plain"),
        ({"detail": "missing"}, "missing"),
        ({"object": "error", "message": "of old"}, "of old"),
        (b"<html>Bad\x1b[31m\n gateway</html>", r"<html>Bad \[31m gateway</html>"),
        (b"", "without a message"),
        (b"[" * 60_000, r": \[\["),
        ([1], r": \[1\]"),
    ],
)
def test_errors_in_all_forms(service: Service, body: object, said: str):
    service.play(replies(body, 422))
    with pytest.raises(ServiceError, match=rf"status 422 .*{said}") as caught:
        endpoint(service).get("/x")
    assert len(str(caught.value)) < 600


def test_the_key_is_never_repeated(service: Service):
    service.play(fails(401, f"Incorrect API key provided: {KEY} (as sk-secr*****6789)"))
    with pytest.raises(ServiceError, match=r"provided: \[key\] \(as \[key\]\)") as caught:
        service.remote().chat(USER)
    service.play(streams(f'data: {{"error": {{"message": "not with {KEY}"}}}}\n\n'))
    with pytest.raises(ServiceError, match=r"broke the stream off: not with \[key\]") as other:
        list(service.remote().stream(USER))
    service.play(replies(f"not JSON {KEY}".encode()))
    with pytest.raises(ServiceError, match="not JSON") as third:
        service.remote().chat(USER)
    for error in (caught.value, other.value, third.value):
        assert KEY not in "".join(traceback.format_exception(error)) + repr(error)
    assert KEY not in repr(service.remote()) + repr(vars(service.remote()))


def test_keys_come_from_the_environment_only(service: Service, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="never the key itself") as caught:
        endpoint(service, key_variable=KEY)
    assert KEY not in str(caught.value)
    with pytest.raises(ConfigError, match=r"variable ABSENT is not set: the key for 127\.0\.0\.1"):
        endpoint(service, key_variable="ABSENT").get("/x")
    monkeypatch.setenv("BROKEN", f"{KEY}\r\nX-More: 1")
    with pytest.raises(ConfigError, match="BROKEN holds what cannot be a key") as caught:
        endpoint(service, key_variable="BROKEN").get("/x")
    assert KEY not in str(caught.value)
    assert service.requests == []


def test_only_openai_gets_its_key_unasked(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint(service, key_variable=None).get("/x")
    assert "Authorization" not in service.requests[0][1]
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY is not set: the key for api\.openai\.com"):
        Endpoint(base_url="https://api.openai.com/v1").get("/models")
    service.play(fails(401, "who are you"))
    with pytest.raises(ServiceError, match="who are you; no key was sent"):
        endpoint(service, key_variable=None).get("/x")


def test_redirects_are_not_followed(service: Service):
    service.play(replies({}, 307, Location="http://localhost:1/elsewhere?token=1"), replies({}))
    with pytest.raises(ServiceError, match=r"redirects to localhost \(status 307\), which is not followed"):
        endpoint(service).get("/x")
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org/v1", "http:// to example.org would send everything unencrypted"),
        ("http://localhost.example.org/v1", "unencrypted"),
        ("http://10.0.0.1/v1", "unencrypted"),
        ("https://user:sk-secret@example.org", "no user, password"),
        ("https://example.org/v1?key=sk-secret", "no user, password, query"),
        ("example.org/v1", "expected https://HOST"),
        ("ftp://example.org", "expected https://HOST"),
        ("https://", "expected https://HOST"),
        ("https://example.org/a b", "expected https://HOST"),
        ("https://example.org:port", "not a URL"),
    ],
)
def test_addresses(url: str, reason: str):
    with pytest.raises(ConfigError, match=reason) as caught:
        Endpoint(base_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://127.9.9.9", "http://[::1]:8000/v1", "https://a.b"]
)
def test_addresses_that_are_fine(url: str):
    Endpoint(base_url=url)
    Endpoint(base_url="http://far.example", plain_http=True)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pauses: list[float] = []
    gone = Endpoint(base_url=f"http://127.0.0.1:{port}", patience=QUICK, sleep=pauses.append)
    with pytest.raises(ServiceError, match="the connection failed") as caught:
        gone.get("/x")
    assert caught.value.passing
    assert len(pauses) == QUICK.retries


@pytest.mark.parametrize("act", [drips(b'{"a": 1}', 0.05), lambda handler: time.sleep(0.6)])
def test_a_slow_service_is_left(service: Service, act: Act):
    """A byte now and then is no answer: each would be in time for a timeout of the socket."""
    service.play(act)
    start = time.monotonic()
    with pytest.raises(ServiceError, match=r"no answer within 0\.3 s"):
        endpoint(service, patience=Patience(timeout=0.3)).get("/x")
    assert time.monotonic() - start < 2


def test_a_slow_stream_is_left_but_a_long_one_is_not(service: Service):
    quick = Patience(timeout=0.4)
    pieces = [chunk(str(i)) for i in range(8)]
    service.play(streams(*pieces, chunk(finish="stop"), pause=0.1))
    assert "".join(service.remote(patience=quick).stream(USER)) == "01234567"
    service.play(streams(pieces[0], *[": alive\n"] * 20, pause=0.05))
    found = service.remote(patience=quick).stream(USER)
    assert next(found) == "0"
    with pytest.raises(ServiceError, match=r"no answer within 0\.4 s"):
        next(found)


def test_a_slow_reader_is_waited_for(service: Service):
    service.play(streams(chunk("a"), chunk("b"), chunk(finish="stop")))
    found = []
    for piece in service.remote(patience=Patience(timeout=0.3)).stream(USER):
        found.append(piece)
        time.sleep(0.4)
    assert found == ["a", "b"]


def test_answers_have_a_bound(service: Service):
    service.play(replies(b"x" * 2000))
    with pytest.raises(ServiceError, match="the answer has 2,000 bytes, the limit is 1,000"):
        endpoint(service, most_bytes=1000).get("/x")

    def endless(handler) -> None:
        handler.head()
        while True:
            handler.wfile.write(b"x" * 100)

    service.play(endless)
    with pytest.raises(ServiceError, match="more than 1,000 bytes"):
        endpoint(service, most_bytes=1000).get("/x")

    def endless_stream(handler) -> None:
        handler.head(kind="text/event-stream")
        while True:
            handler.wfile.write(b"data: 1\n\n")

    service.play(endless_stream)
    with pytest.raises(ServiceError, match="the stream has more than 1,000 bytes"):
        list(endpoint(service, most_bytes=1000).stream("/x", {}))


def test_answers_that_are_cut_off(service: Service):
    def cut(handler) -> None:
        handler.head(Content_Length="100")
        handler.wfile.write(b'{"a": 1}')

    service.play(cut, replies({"ok": 1}))
    assert endpoint(service).get("/x") == {"ok": 1}
    service.play(cut)
    with pytest.raises(ServiceError, match="broke off before the answer was whole"):
        endpoint(service).get("/x")

    def chunked(handler) -> None:
        handler.head(Transfer_Encoding="chunked")
        handler.wfile.write(b'20\r\n{"a": 1')

    service.play(chunked)
    with pytest.raises(ServiceError, match="broke off"):
        endpoint(service).get("/x")
    service.play(lambda handler: handler.connection.close())
    with pytest.raises(ServiceError, match="the connection failed"):
        endpoint(service).get("/x")


def test_chunked_answers(service: Service):
    def chunked(handler) -> None:
        handler.head(Transfer_Encoding="chunked")
        for part in (b'{"a"', b": 1}", b""):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    service.play(chunked)
    assert endpoint(service).get("/x") == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000])
def test_what_is_not_json(service: Service, content: bytes):
    service.play(replies(content))
    with pytest.raises(ServiceError, match="what is not JSON"):
        endpoint(service).get("/x")


def test_a_stream_is_tried_again_until_it_begins(service: Service):
    service.play(fails(503), streams(chunk("a"), chunk(finish="stop"), "data: [DONE]\n\n", "data: never\n\n"))
    assert list(service.remote().stream(USER)) == ["a"]
    service.play(streams(chunk("a")), says("again"))
    with pytest.raises(ServiceError, match="the stream ended before the answer did"):
        list(service.remote().stream(USER))
    assert len(service.requests) == 3
    service.play(says("no stream"))
    with pytest.raises(ServiceError, match="answered with application/json, expected a stream"):
        list(service.remote().stream(USER))


def test_a_stream_that_is_left_hangs_up(service: Service):
    left: list[bool] = []

    def long(handler) -> None:
        handler.head(kind="text/event-stream")
        try:
            while True:
                handler.wfile.write(chunk("a").encode())
                time.sleep(0.01)
        except OSError:
            left.append(True)

    service.play(long)
    found: Iterator[str] = service.remote().stream(USER)
    assert next(found) == "a"
    found.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while not left and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left
