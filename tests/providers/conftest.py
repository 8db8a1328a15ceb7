"""The service that tests of providers talk to."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from providers.service import KEY, Service, says


@pytest.fixture(scope="session")
def listening() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    service.shutdown()
    service.server_close()
    thread.join()


@pytest.fixture
def service(listening: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service, which has the key in ``TEST_KEY`` and says hello."""
    monkeypatch.setenv("TEST_KEY", KEY)
    listening.requests.clear()
    listening.play(says("hello"))
    return listening
