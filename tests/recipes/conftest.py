"""Writes down the largest difference from the reference of each page, where ``PARITY_FILE`` names a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from recipes import parity


@pytest.fixture(autouse=True)
def _page(request: pytest.FixtureRequest) -> None:
    parity.page = Path(request.node.path).stem.removeprefix("test_")


def pytest_sessionfinish() -> None:
    if file := os.environ.get("PARITY_FILE"):
        rounded = {name: float(f"{worst:.1e}") for name, worst in sorted(parity.worst.items())}
        Path(file).write_text(json.dumps(rounded, indent=1) + "\n")
