"""The kernel is built where it can be, and its absence is no error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sensorium.core.kernels import int8_product


@pytest.fixture(autouse=True)
def fresh():
    """Each test builds for itself."""
    int8_product.cache_clear()
    yield
    int8_product.cache_clear()


def test_it_is_built_once():
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    assert int8_product() is not None
    assert int8_product() is int8_product()


@pytest.mark.parametrize("found", ["", "no-such-compiler", "broken", "silent"])
def test_without_a_working_compiler_there_is_none(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script = tmp_path / found
    if found in ("broken", "silent"):  # one that fails, one that makes nothing
        script.write_text(f"#!/bin/sh\nexit {int(found == 'broken')}\n")
        script.chmod(0o755)
        found = str(script)
    monkeypatch.setenv("CC", found)
    assert int8_product() is None
